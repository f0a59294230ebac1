"""How much of a log or a catalogue may be bad, whenever that is found out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import START_MS, TEST_FROM_MS, VALIDATION_FROM_MS

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog

ACTIONS = ("impression", "click", "conversion")


def _prepare(folder: Path, columns: dict[str, str], items: list[dict[str, Any]], **settings: Any) -> PreparedLog:
    rows = [
        {"user_id": f"u{bid % 5}", "item_id": f"i{bid % 4}", "bid_id": f"b{bid}", "action": action}
        | {"timestamp": START_MS + 10 * bid + place}
        for bid in range(20)
        for place, action in enumerate(ACTIONS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "log.parquet")
    pq.write_table(pa.Table.from_pylist(items), folder / "ads.parquet")
    files = {
        "events": {"path": str(folder / "log.parquet"), "columns": columns},
        "catalogue": str(folder / "ads.parquet"),
    }
    split = {"by": "time", "validation_from": VALIDATION_FROM_MS, "test_from": TEST_FROM_MS}
    logs = LogsConfig.parse({"source": "files", "files": files, "split": split, **settings})
    return run(SimpleNamespace(work_dir=folder / "run", logs=logs), in_process=True)


ITEMS = [{"item_id": f"i{number}", "price": 1.0} for number in range(4)]


def test_a_request_id_mapped_as_event_id_is_refused_with_the_right_name(tmp_path):
    with pytest.raises(UserError, match="40 of 60 rows are bad") as refusal:
        _prepare(tmp_path, {"event_id": "bid_id"}, ITEMS)
    assert "map it to request_id" in str(refusal.value)
    assert '"action": "click"' in str(refusal.value)
    assert not (tmp_path / "run" / "prepared").exists()


def test_the_same_column_as_request_id_keeps_every_row(tmp_path):
    account = _prepare(tmp_path, {"request_id": "bid_id"}, ITEMS).account
    assert account["kept"] == account["rows_in"] == 60
    assert account["actions"] == dict.fromkeys(ACTIONS, 20)


def test_a_raised_limit_takes_the_log_as_it_is(tmp_path):
    account = _prepare(tmp_path, {"event_id": "bid_id"}, ITEMS, max_quarantined=0.7).account
    assert account["kept"] == 20
    assert account["reasons"] == {"event_id names another event of the user": 40}


def test_a_catalogue_has_the_same_bound(tmp_path):
    bad = [{"item_id": f"bad{number}", "price": -1.0} for number in range(3)]
    with pytest.raises(UserError, match="3 of 7 rows of the catalogue are bad") as refusal:
        _prepare(tmp_path, {}, ITEMS + bad)
    assert "bad0" in str(refusal.value)
    account = _prepare(tmp_path, {}, ITEMS + bad, max_quarantined=0.5).account
    assert account["catalogue"]["quarantined"] == 3


@pytest.mark.parametrize("bad", [1, 4])
def test_a_catalogue_in_another_encoding_is_told_the_setting(tmp_path, bad):
    titles = [{"title": "Caf\u00e9".encode("latin-1" if place < bad else "utf-8")} for place in range(4)]
    with pytest.raises(UserError, match=r"title is not text.*set encoding \(latin-1"):
        _prepare(tmp_path, {}, [item | title for item, title in zip(ITEMS, titles, strict=True)])
