"""Active dates of a catalogue become the window of an ad's rules; wrong ones are quarantined by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.errors import UserError
from adbeam.logs.catalogue import read_catalogue
from adbeam.logs.config import TableConfig
from adbeam.targeting.features import FeatureConfig
from adbeam.targeting.rules import read_rules
from adbeam.targeting.told import Told

FEATURES = {"country": FeatureConfig(kind="category")}
MAPPED = {"active_from": "begins", "active_to": "ends"}
MAY_MS = 1_777_593_600_000
"""2026-05-01T00:00Z."""
DAY_MS = 86_400_000


def _read(path: Path, told: Any = None, **settings: Any) -> tuple[dict[str, str | None], dict[str, str]]:
    """({item: rules}, {item: why it was quarantined})."""
    config = TableConfig(path=(str(path),), **settings)
    kept, quarantine, account = read_catalogue(config, "logs.files.catalogue", 1000, told)
    assert account["rows_in"] == account["kept"] + account["quarantined"] + account["duplicates"]
    rules = kept["targeting"].to_pylist() if "targeting" in kept.column_names else [None] * kept.num_rows
    bad = [json.loads(row)["item_id"] for row in quarantine["row"].to_pylist()]
    return (
        dict(zip(kept["item_id"].to_pylist(), rules, strict=True)),
        dict(zip(bad, quarantine["reason"].to_pylist(), strict=True)),
    )


def _csv(folder: Path, *rows: str) -> Path:
    path = folder / "ads.csv"
    path.write_text("\n".join(["item_id,begins,ends", *rows]) + "\n")
    return path


def test_dates_of_a_csv_are_the_window_of_an_ad(tmp_path: Path) -> None:
    path = _csv(
        tmp_path,
        "both,2026-05-01,2026-05-02",
        "from,2026-05-01T02:00:00+02:00,",
        "to,NULL,2026-05-02 00:00:00",
        "ever,,",
        "for ever,2026-05-01,9999-12-31",
        "upside down,2026-05-02,2026-05-01",
        "no moment,2026-05-01,2026-05-01",
        "no date,soon,",
    )
    kept, bad = _read(path, columns=MAPPED, timestamp_unit="iso")
    assert kept == {
        "both": f'{{"start":{MAY_MS},"end":{MAY_MS + DAY_MS}}}',
        "from": f'{{"start":{MAY_MS}}}',
        "to": f'{{"end":{MAY_MS + DAY_MS}}}',
        "ever": None,
        "for ever": f'{{"start":{MAY_MS},"end":253402214400000}}',
    }
    assert set(bad) == {"upside down", "no moment", "no date"}
    assert bad["upside down"] == bad["no moment"] == "active_to is not after active_from"
    assert bad["no date"] == "active_from is not a time in the catalogue's timestamp_unit, iso"
    both = read_rules(str(kept["both"]), {})
    shown = [both.hold(Told((), "home", now)) for now in (MAY_MS - 1, MAY_MS, MAY_MS + DAY_MS - 1, MAY_MS + DAY_MS)]
    assert shown == [False, True, True, False]


def test_dates_without_a_zone_are_in_the_catalogues_own(tmp_path: Path) -> None:
    path = _csv(tmp_path, "a,2026-05-01,")
    kept, _ = _read(path, columns=MAPPED, timestamp_unit="iso", timezone="Europe/Berlin")
    assert kept == {"a": f'{{"start":{MAY_MS - DAY_MS // 12}}}'}


def test_counts_and_arrows_own_moments_are_read_as_timestamps_are(tmp_path: Path) -> None:
    path = tmp_path / "ads.parquet"
    seconds = pa.table({"item_id": ["a", "b"], "begins": [MAY_MS // 1000, None], "ends": [None, 4e9]})
    pq.write_table(seconds, path)
    kept, _ = _read(path, columns=MAPPED, timestamp_unit="s")
    assert kept == {"a": f'{{"start":{MAY_MS}}}', "b": '{"end":4000000000000}'}
    dates = pa.array([MAY_MS, None], pa.timestamp("ms")).cast(pa.date32())
    pq.write_table(pa.table({"item_id": ["a", "b"], "begins": dates}), path)
    kept, _ = _read(path, columns={"active_from": "begins"})
    assert kept == {"a": f'{{"start":{MAY_MS}}}', "b": None}


@pytest.mark.parametrize(("cell", "unit"), [(str(MAY_MS // 1000), "s"), ("2026-05-01", "iso")])
def test_a_wrong_unit_is_refused_with_the_one_that_fits(tmp_path: Path, cell: str, unit: str) -> None:
    with pytest.raises(UserError, match=f"set timestamp_unit: {unit}") as refused:
        _read(_csv(tmp_path, f"a,{cell},", "b,,"), columns=MAPPED)
    assert refused.value.field == "logs.files.catalogue.timestamp_unit"


def test_of_dates_and_rules_the_narrower_window_counts(tmp_path: Path) -> None:
    path = tmp_path / "ads.jsonl"
    country = {"country": {"in": ["de"]}}
    day = {"begins": MAY_MS, "ends": MAY_MS + DAY_MS}
    wide = {"start": MAY_MS - DAY_MS, "end": MAY_MS + 2 * DAY_MS}
    rows: list[dict[str, Any]] = [
        {"item_id": "plain", "targeting": country, **day},
        {"item_id": "wide", "targeting": country | wide, **day},
        {"item_id": "narrow", "targeting": {"end": MAY_MS + 5}, **day},
        {"item_id": "apart", "targeting": {"start": MAY_MS + 3 * DAY_MS}, **day},
        {"item_id": "wrong rules", "targeting": {"nation": {"in": ["de"]}}, **day},
        {"item_id": "wrong dates", "targeting": country, "begins": 5, "ends": 4},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    kept, bad = _read(path, FEATURES, columns=MAPPED)
    window = f'"start":{MAY_MS},"end":{MAY_MS + DAY_MS}}}'
    assert kept["plain"] == kept["wide"] == '{"country":{"in":["de"]},' + window
    assert kept["narrow"] == f'{{"start":{MAY_MS},"end":{MAY_MS + 5}}}'
    assert bad["apart"] == "active dates and the start and end of targeting leave no moment"
    assert "targeting.nation" in bad["wrong rules"]
    assert bad["wrong dates"] == "active_to is not after active_from"
    for rules in filter(None, kept.values()):
        assert read_rules(rules, FEATURES).text == rules, "the one form"


def test_columns_of_these_names_are_left_alone_unless_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "ads.jsonl"
    path.write_text(json.dumps({"item_id": "a", "active_from": "someday", "active_to": 7}))
    assert _read(path) == ({"a": None}, {})
    path.write_text("\n".join(json.dumps({"item_id": n, "active_from": MAY_MS}) for n in "ab"))
    assert _read(path, FEATURES)[0] == dict.fromkeys("ab", f'{{"start":{MAY_MS}}}')
    assert _read(path, columns={"active_from": "active_from"})[0]["a"] == f'{{"start":{MAY_MS}}}'
    with pytest.raises(UserError, match="is the column of targeting dates"):
        _read(path, FEATURES, features={"active_from": "integer"})


def test_bytes_a_lone_infinity_and_the_far_future_are_no_dates(tmp_path: Path) -> None:
    path = tmp_path / "ads.parquet"
    rows = [{"item_id": "good", "begins": 5.0}, {"item_id": "inf", "begins": float("inf")},
            {"item_id": "far", "begins": 1e300}, {"item_id": "before", "begins": -1.0},
            {"item_id": "nan", "begins": float("nan")}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)
    kept, bad = _read(path, columns={"active_from": "begins"})
    assert kept == {"good": '{"start":5}', "nan": None}
    assert bad["before"] == "active_from is before 1970"
    assert bad["inf"] == bad["far"] == "active_from is not a time in the catalogue's timestamp_unit, ms"
