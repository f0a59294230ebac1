"""Of an item's versions in a catalogue of many days the newest counts, by a column or by the order of files."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import write_sample_log

from adbeam.errors import UserError
from adbeam.logs.catalogue import read_catalogue
from adbeam.logs.config import LogsConfig, TableConfig
from adbeam.logs.pipeline import describe, run

FIELD = "logs.files.catalogue"


def write_days(folder: Path, days: dict[str, list[str]], header: str = "item_id,price,day") -> Path:
    for name, rows in days.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder


def read(path: Path, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """({item: price}, account)."""
    items, _, account = read_catalogue(TableConfig.parse({"path": str(path), **settings}), FIELD, 3)
    return dict(zip(items["item_id"].to_pylist(), items["price"].to_pylist(), strict=True)), account


DAYS = {
    "03-01.csv": ["a,1,2025-03-01", "b,5,2025-03-01"],
    "03-02.csv": ["a,3,2025-03-02", "b,5,2025-03-02", "c,7,2025-03-02"],
    "03-03.csv": ["a,1,2025-03-03", "b,5,2025-03-03"],
}


@pytest.mark.parametrize("newest_by", ["day", "file_order"])
def test_the_newest_version_of_an_item_stays_and_the_others_are_counted(tmp_path, newest_by):
    prices, account = read(write_days(tmp_path / "ads", DAYS), newest_by=newest_by)
    assert prices == {"a": 1.0, "b": 5.0, "c": 7.0}
    assert account == {"rows_in": 7, "kept": 3, "quarantined": 0, "duplicates": 0, "older_versions": 4}


def test_the_order_of_rows_does_not_matter_to_a_column(tmp_path):
    folder = write_days(tmp_path / "ads", {"all.csv": [*DAYS["03-03.csv"], *DAYS["03-01.csv"], *DAYS["03-02.csv"]]})
    assert read(folder, newest_by="day")[0]["a"] == 1.0
    assert read(folder, newest_by="file_order")[0]["a"] == 3.0


def test_versions_of_one_age_that_are_equal_are_duplicates_and_others_go_to_quarantine(tmp_path):
    rows = ["a,1,1", "a,2,2", "a,2,2", "b,1,2", "b,9,2", "c,1,1"]
    prices, account = read(write_days(tmp_path / "ads", {"x.csv": rows}), newest_by="day")
    assert prices == {"a": 2.0, "c": 1.0}
    assert account == {"rows_in": 6, "kept": 2, "quarantined": 2, "duplicates": 1, "older_versions": 1}


def test_a_bad_row_is_no_version(tmp_path):
    prices, account = read(write_days(tmp_path / "ads", {"x.csv": ["a,1,1", "a,-2,2"]}), newest_by="day")
    assert prices == {"a": 1.0}
    assert (account["quarantined"], account["older_versions"]) == (1, 0)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("9", "10"),
        ("1741000000000000001", "1741000000000000002"),  # a float64 holds them as one number
        ("9.5", "10"),
        ("", "1"),
        ("2025-03-09T23:00:00+00:00", "2025-03-10T00:30:00+01:00"),  # by an hour, not by words
        ("2025-03-09", "2025-03-10T00:00:00"),
    ],
)
def test_versions_in_text_are_numbers_or_moments(tmp_path, older, newer):
    prices, _ = read(write_days(tmp_path / "ads", {"x.csv": [f"a,2,{newer}", f"a,1,{older}"]}), newest_by="day")
    assert prices == {"a": 2.0}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (9, 10),
        (9.5, 10.5),
        (None, 1),
        (Decimal("9.50"), Decimal("10.00")),
        (datetime(2025, 3, 9), datetime(2025, 3, 10)),
        (b"9", b"10"),
    ],
)
def test_versions_of_any_type_are_compared(tmp_path, older, newer):
    rows = [{"item_id": "a", "price": 2.0, "seen": newer}, {"item_id": "a", "price": 1.0, "seen": older}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ads.parquet")
    assert read(tmp_path / "ads.parquet", newest_by="seen")[0] == {"a": 2.0}


def test_the_type_of_a_version_may_differ_by_file(tmp_path):
    (tmp_path / "ads").mkdir()
    (tmp_path / "ads" / "1.csv").write_text("item_id,price,version\na,1,9\n")
    pq.write_table(pa.table({"item_id": ["a"], "price": [2.0], "version": [10]}), tmp_path / "ads" / "2.parquet")
    (tmp_path / "ads" / "3.jsonl").write_text(json.dumps({"item_id": "a", "price": 3.0, "version": 2}) + "\n")
    assert read(tmp_path / "ads", newest_by="version")[0] == {"a": 2.0}


def test_a_version_may_be_a_folder_a_mapped_column_or_a_field_inside(tmp_path):
    days = {"dt=2025-03-02/a.csv": ["a,2,x"], "dt=2025-03-01/b.csv": ["a,1,x"]}
    assert read(write_days(tmp_path / "days", days), newest_by="dt")[0] == {"a": 2.0}
    folder = write_days(tmp_path / "ads", {"x.csv": ["a,2,9", "a,1,8"]}, "item_id,price,cost")
    settings: dict[str, Any] = {"columns": {"ecpm": "cost"}, "newest_by": "cost"}
    assert read(folder, **settings)[0] == {"a": 2.0}
    lines = [{"item_id": "a", "price": price, "meta": {"at": price}} for price in (2.0, 1.0)]
    (tmp_path / "ads.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read(tmp_path / "ads.jsonl", newest_by="meta.at")[0] == {"a": 2.0}


def test_versions_that_nobody_can_order_are_refused(tmp_path):
    folder = write_days(tmp_path / "ads", {"x.csv": ["a,2,v9", "a,1,v10"]})
    with pytest.raises(UserError, match=r"catalogue\.newest_by: day holds neither numbers nor moments.*v9.*file_order"):
        read(folder, newest_by="day")


def test_a_column_that_is_not_there_is_refused(tmp_path):
    folder = write_days(tmp_path / "ads", DAYS)
    with pytest.raises(UserError, match=r"catalogue\.newest_by: .*no column 'updated'.*name one of its columns.*day"):
        read(folder, newest_by="updated")


def test_each_declared_feature_is_looked_for(tmp_path):
    folder = write_days(tmp_path / "ads", DAYS)
    with pytest.raises(UserError, match=r"no column 'colour'"):
        read(folder, features={"colour": "string", "day": "string"})


def prepare(folder: Path, days: int, changed: int, **catalogue: Any) -> dict[str, Any]:
    """The catalogue's account of a sample log whose first `changed` of 40 items have another price each day."""
    sample = write_sample_log(folder / "sample", users=6, items=40)
    items = pq.read_table(sample.catalogue)
    (folder / "ads").mkdir()
    for day in range(days):
        rows = [row | {"price": row["price"] + day * (place < changed)} for place, row in enumerate(items.to_pylist())]
        pq.write_table(pa.Table.from_pylist(rows, schema=items.schema), folder / "ads" / f"{day:02d}.parquet")
    files = {"events": str(sample.events), "catalogue": {"path": str(folder / "ads"), **catalogue}}
    logs = LogsConfig.parse(sample.settings | {"files": files})
    account: dict[str, Any] = run(SimpleNamespace(work_dir=folder / "run", logs=logs), in_process=True).account
    return account


def test_a_log_with_a_catalogue_of_many_days_keeps_all_ads_and_events(tmp_path):
    account = prepare(tmp_path, days=20, changed=10, newest_by="file_order")
    assert account["catalogue"]["kept"] == 40
    assert account["kept"] == account["rows_in"]


@pytest.mark.parametrize("changed", [10, 40])
def test_without_the_setting_it_is_refused_and_told_the_setting(tmp_path, changed):
    with pytest.raises(UserError, match=r"set its newest_by to the column.*newest_by: file_order"):
        prepare(tmp_path, days=20, changed=changed)


def test_many_equal_days_do_not_hide_lost_ads(tmp_path):
    with pytest.raises(UserError, match=r"16 of 48 different rows of the catalogue are bad.*several different rows"):
        prepare(tmp_path, days=2, changed=8)


def test_events_have_no_versions_and_a_catalogue_without_them_keeps_its_fingerprint(tmp_path):
    sample = write_sample_log(tmp_path, users=2, items=9)
    plain = LogsConfig.parse(sample.settings)
    assert "newest_by" not in plain.model_dump_json()
    files = sample.settings["files"] | {"catalogue": {"path": str(sample.catalogue), "newest_by": "file_order"}}
    declared = LogsConfig.parse(sample.settings | {"files": files})
    assert describe(plain, [])["fingerprint"] != describe(declared, [])["fingerprint"]
    files = sample.settings["files"] | {"events": {"path": str(sample.events), "newest_by": "timestamp"}}
    with pytest.raises(UserError, match="only a catalogue holds versions"):
        LogsConfig.parse(sample.settings | {"files": files})
