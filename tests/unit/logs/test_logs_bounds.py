"""How much of a log or a catalogue may be bad, and a split that lies outside of the log, whenever that is found out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import START_MS

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog

SPLIT = {"by": "time", "validation_from": START_MS + 150, "test_from": START_MS + 180}
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
    logs = LogsConfig.parse({"source": "files", "files": files, "split": SPLIT, **settings})
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


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({"validation_from": "2026-03-20", "test_from": "2026-03-25"},
         r"split\.validation_from: leaves no event for validation and test.*got '2026-03-20T00:00:00Z'; move it and"),
        ({"test_from": START_MS + 10_000}, r"split\.test_from: leaves no event for test: .*move it earlier"),
        ({"validation_from": START_MS + 189, "test_from": START_MS + 190},
         r"split\.validation_from: leaves no event for validation: .*or test_from later"),
        ({"validation_from": START_MS}, r"split\.validation_from: leaves no event for training: .*move it later"),
        ({"validation_from": START_MS - 9, "test_from": START_MS - 8},
         r"split\.validation_from: leaves no event for training and validation: .*move it later"),
    ],
)  # fmt: skip
def test_a_split_that_leaves_a_part_empty_is_refused_with_the_span_of_the_log(tmp_path, split, told):
    with pytest.raises(UserError, match=told) as refusal:
        _prepare(tmp_path, {}, ITEMS, split=SPLIT | split)
    assert "the log goes from 2020-09-13T12:26:40Z to 2020-09-13T12:26:40.192Z" in str(refusal.value)
    assert not (tmp_path / "run" / "prepared").exists()


def test_leaving_out_the_last_needs_users_with_three_requests(tmp_path):
    with pytest.raises(UserError, match=r"split\.by: leaves no event for validation and test: no user has three"):
        _prepare(tmp_path, {"user_id": "user_id", "request_id": "user_id"}, ITEMS, split={"by": "leave_last_out"})


def test_a_split_without_a_target_is_told(tmp_path, capsys):
    account = _prepare(tmp_path, {}, ITEMS, split=SPLIT | {"test_from": START_MS + 192}).account
    assert (account["test"], account["validation"]) == (
        {"conversion": 1},
        {"impression": 5, "click": 5, "conversion": 4},
    )
    assert "warning" not in capsys.readouterr().out
    _prepare(tmp_path, {}, ITEMS, split=SPLIT | {"validation_from": START_MS + 180, "test_from": START_MS + 182})
    assert "no conversion in validation: nothing can be judged there" in " ".join(capsys.readouterr().out.split())


def test_the_account_tells_from_when_to_when_the_log_goes(tmp_path, capsys):
    account = _prepare(tmp_path, {}, ITEMS).account
    assert account["span"] == {"first": "2020-09-13T12:26:40Z", "last": "2020-09-13T12:26:40.192Z"}
    assert "last moment" in capsys.readouterr().out
