"""`catalogue: from_log`: the ads are those that the log's good rows name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.support.samples import SampleLog, write_sample_log

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import describe, run
from adbeam.logs.prepared import PreparedLog


def settings_of(sample: SampleLog, **logs: Any) -> LogsConfig:
    files = {"events": str(sample.events), "catalogue": "from_log"}
    return LogsConfig.parse(sample.settings | {"files": files, "batch_rows": 40} | logs)


def prepare(work_dir: Path, logs: LogsConfig) -> PreparedLog:
    return run(SimpleNamespace(work_dir=work_dir, logs=logs), in_process=True)


def test_the_items_of_a_log_make_its_catalogue_and_every_event_is_kept(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=6, items=20)
    want = prepare(tmp_path / "with", LogsConfig.parse(sample.settings))
    got = prepare(tmp_path / "without", settings_of(sample))
    items = {row["item_id"]: row for row in got.catalogue().to_pylist()}
    events = pq.read_table(sample.events)
    assert set(items) == set(events["item_id"].to_pylist())
    organic = set(events.filter(pc.equal(events["item_kind"], "organic"))["item_id"].to_pylist())
    assert {name for name, row in items.items() if row["kind"] == "organic"} == organic != set()
    assert all(row["title"] == name and row["status"] == "active" for name, row in items.items())
    for ours, theirs in zip(got.events(), want.events(), strict=True):
        assert pq.read_table(ours).equals(pq.read_table(theirs))
    assert got.account["source"] == {"items of the log itself": len(items)}
    assert got.account["catalogue"] == {"rows_in": len(items), "kept": len(items)}


def test_an_item_is_an_ad_unless_all_its_rows_say_organic(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=6, items=20)
    rows = pq.read_table(sample.events).to_pylist()
    first = next(row for row in rows if row["item_kind"] == "organic")
    first["item_kind"] = None
    pq.write_table(pa.Table.from_pylist(rows), sample.events)
    kinds = {
        row["item_id"]: row["kind"] for row in prepare(tmp_path / "run", settings_of(sample)).catalogue().to_pylist()
    }
    assert kinds[first["item_id"]] == "ad"
    assert "organic" in kinds.values()


def test_a_bad_row_makes_no_ad(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=6, items=20)
    rows = pq.read_table(sample.events).to_pylist()
    bad = [
        rows[0] | {"event_id": "x", "item_id": "ghost", "action": "stare"},
        rows[0] | {"event_id": "y", "item_id": ""},
    ]
    pq.write_table(pa.Table.from_pylist(rows + bad, schema=pq.read_schema(sample.events)), sample.events)
    prepared = prepare(tmp_path / "run", settings_of(sample))
    assert "ghost" not in prepared.catalogue()["item_id"].to_pylist()
    assert prepared.account["reasons"] == {"action is unknown": 1, "item_id is empty": 1}


def test_a_log_without_a_good_row_is_told_its_own_reasons(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=2, items=9)
    rows = [row | {"action": "stare"} for row in pq.read_table(sample.events).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), sample.events)
    with pytest.raises(UserError, match=r"x action is unknown"):
        prepare(tmp_path / "run", settings_of(sample))
    pq.write_table(pa.Table.from_pylist(rows)[:0], sample.events)
    with pytest.raises(UserError, match=r"the log is empty"):
        prepare(tmp_path / "run", settings_of(sample))


def test_the_setting_is_written_as_it_was_and_nothing_at_all_is_refused(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path, users=2, items=9)
    logs = settings_of(sample)
    dumped = logs.model_dump(mode="json")
    assert dumped["files"]["catalogue"] == "from_log"
    assert LogsConfig.parse(dumped) == logs
    assert describe(logs, [])["fingerprint"] != describe(LogsConfig.parse(sample.settings), [])["fingerprint"]
    for files in ({"events": "a"}, {"events": "a", "catalogue": None}):
        with pytest.raises(UserError, match=r"files\.catalogue: (Field required|name a table, or write from_log)"):
            LogsConfig.parse(sample.settings | {"files": files})
