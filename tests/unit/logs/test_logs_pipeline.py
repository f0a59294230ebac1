"""The whole preparation on small logs, in this process: account, idempotency, kills, and what bad input is told."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.support.samples import (
    DAY_MS,
    START_MS,
    TEST_FROM_MS,
    VALIDATION_FROM_MS,
    write_sample_log,
    write_sample_prepared,
)

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences

NEXT_CENTURY_MS = 4_102_444_800_000


def _run(work_dir: Path, settings: dict) -> PreparedLog:
    return run(SimpleNamespace(work_dir=work_dir, logs=LogsConfig.parse(settings)), in_process=True)


def test_a_sample_log_comes_out_whole_and_split_by_time(tmp_path):
    prepared = write_sample_prepared(tmp_path, users=12, items=30)
    raw = pq.read_table(tmp_path / "sample" / "events.parquet")
    account = prepared.account
    assert account["rows_in"] == account["kept"] == raw.num_rows
    assert account["users"] == 12
    assert (
        prepared.catalogue()
        .sort_by("item_id")
        .equals(pq.read_table(tmp_path / "sample" / "catalogue.parquet").sort_by("item_id"))
    )
    sequences = [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]
    assert sorted(sequence.user_id for sequence in sequences) == sorted(f"user{number}" for number in range(12))
    for sequence in sequences:
        expected = raw.filter(pc.equal(raw["user_id"], sequence.user_id)).sort_by(
            [("timestamp", "ascending"), ("request_id", "ascending"), ("position", "ascending")]
        )
        assert sequence.item_H.tolist() == expected["item_id"].to_pylist()
        before = sequence.timestamp_H < VALIDATION_FROM_MS
        assert ((sequence.split_H == 0) == before).all()
        assert ((sequence.split_H == 2) == (sequence.timestamp_H >= TEST_FROM_MS)).all()


def test_a_dirty_log_balances(tmp_path):
    sample = write_sample_log(tmp_path, users=10, items=20)
    rows = pq.read_table(sample.events).to_pylist()
    bad = [{**row, "event_id": f"bad{place}"} for place, row in enumerate(rows[:5])]
    bad[0]["price"], bad[1]["item_id"], bad[2]["user_id"] = -1.0, "unheard of", ""
    bad[3]["timestamp"], bad[4]["action"] = NEXT_CENTURY_MS, "stare"
    reused = [{**rows[7], "timestamp": rows[7]["timestamp"] + 1}]
    dirty = pa.Table.from_pylist(rows + bad + reused + rows[:3] + rows[:2], schema=pq.read_schema(sample.events))
    pq.write_table(dirty, sample.events, row_group_size=100)
    prepared = _run(tmp_path, sample.settings | {"batch_rows": 64})
    account = prepared.account
    assert account["rows_in"] == len(rows) + 5 + 1 + 3 + 2
    assert account["kept"] == len(rows)
    assert account["duplicates"] == 5
    assert account["reasons"] == {
        "action is unknown": 1,
        "event_id names another event of the user": 1,
        "item not in catalogue": 1,
        "price is negative": 1,
        "timestamp is in the future": 1,
        "user_id is empty": 1,
    }
    quarantine = prepared.quarantine()
    assert sorted(quarantine["reason"].to_pylist()) == sorted(account["reasons"])
    assert all("item_id" in json.loads(row) for row in quarantine["row"].to_pylist())


def test_csv_and_jsonl_give_the_same_sequences_as_parquet(tmp_path):
    sample = write_sample_log(tmp_path, users=6, items=20)
    want = _run(tmp_path / "parquet", sample.settings)
    frame = pq.read_table(sample.events)
    seconds = pc.cast(pc.divide(pc.cast(frame["timestamp"], pa.float64()), 1000.0), pa.string())
    frame = frame.set_column(3, "when", seconds).drop_columns(["item_kind"])
    rows = frame.to_pylist()
    header = ",".join(frame.column_names)
    lines = [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
    (tmp_path / "log.csv").write_text("\n".join([header, *lines]))
    with gzip.open(tmp_path / "log.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    for name in ("log.csv", "log.jsonl.gz"):
        events = {"path": str(tmp_path / name), "columns": {"timestamp": "when"}, "timestamp_unit": "s"}
        files = {"events": events, "catalogue": str(sample.catalogue)}
        got = _run(tmp_path / name.replace(".", "_"), sample.settings | {"files": files})
        for ours, theirs in zip(got.sequences(), want.sequences(), strict=True):
            assert pq.read_table(ours).equals(pq.read_table(theirs)), name


def test_feature_columns_ride_along(tmp_path):
    sample = write_sample_log(tmp_path, users=4, items=20)
    events = pq.read_table(sample.events)
    pq.write_table(events.append_column("shop", pa.array([1.0] * events.num_rows)), sample.events)
    files = {"events": {"path": str(sample.events), "features": {"shop": "integer"}}}
    files["catalogue"] = {"path": str(sample.catalogue), "columns": {}, "features": {"advertiser_note": "string"}}
    files["catalogue"]["constants"] = {"advertiser_note": "none"}
    prepared = _run(tmp_path, sample.settings | {"files": files})
    assert pq.read_table(prepared.events()[0])["shop"].to_pylist()[0] == 1
    assert prepared.catalogue()["advertiser_note"].to_pylist() == ["none"] * 20


def test_a_sequence_file_is_left_last_out(tmp_path):
    (tmp_path / "log.txt").write_text("u1 i3 i1 i2 i3\nu2 i1 i2 i4\n\nu3 i9\nu4\n")
    (tmp_path / "items.csv").write_text("id,words\n" + "".join(f"i{number},thing {number}\n" for number in range(1, 5)))
    items = {"path": str(tmp_path / "items.csv"), "columns": {"item_id": "id", "title": "words"}}
    settings: dict[str, Any] = {
        "source": "sequences",
        "sequences": {"path": str(tmp_path / "log.txt")},
        "max_quarantined": 0.5,
    }
    with_items = settings | {"sequences": settings["sequences"] | {"items": items}}
    prepared = _run(tmp_path / "with", with_items)
    assert prepared.account["reasons"] == {"item_id is empty": 1, "item not in catalogue": 1}
    rows = {row["user_id"]: row for shard in prepared.sequences() for row in pq.read_table(shard).to_pylist()}
    assert rows["u1"]["item_id"] == ["i3", "i1", "i2", "i3"]
    assert rows["u1"]["split"] == [0, 0, 1, 2] and rows["u2"]["split"] == [0, 1, 2]
    assert rows["u1"]["timestamp"] == [0, 1, 2, 3]
    assert prepared.catalogue()["title"].to_pylist()[0] == "thing 1"
    alone = _run(tmp_path / "without", settings)
    assert alone.catalogue()["item_id"].to_pylist() == ["i1", "i2", "i3", "i4", "i9"]
    assert alone.account["reasons"] == {"item_id is empty": 1}
    earlier = _run(tmp_path / "earlier", with_items | {"sequences": with_items["sequences"] | {"without_last": 1}})
    rows = {row["user_id"]: row for shard in earlier.sequences() for row in pq.read_table(shard).to_pylist()}
    assert rows["u1"]["item_id"] == ["i3", "i1", "i2"] and rows["u1"]["split"] == [0, 1, 2]
    assert set(rows) == {"u1", "u2"} and earlier.account["reasons"] == {"item_id is empty": 1}
    same = _run(tmp_path / "with", with_items | {"sequences": with_items["sequences"] | {"without_last": 0}})
    assert same.fingerprint == prepared.fingerprint


def test_a_rerun_does_nothing_until_something_changes(tmp_path):
    sample = write_sample_log(tmp_path, users=4, items=20)
    first = _run(tmp_path, sample.settings)
    inode = (first.folder / "manifest.json").stat().st_ino
    assert (_run(tmp_path, sample.settings).folder / "manifest.json").stat().st_ino == inode
    assert _run(tmp_path, sample.settings | {"shards": 3}).fingerprint != first.fingerprint
    before = _run(tmp_path, sample.settings).fingerprint
    os.utime(sample.events, ns=(1, 1))
    assert _run(tmp_path, sample.settings).fingerprint != before


def test_a_spoilt_folder_is_refused_and_made_again(tmp_path):
    sample = write_sample_log(tmp_path, users=4, items=20)
    prepared = _run(tmp_path, sample.settings)
    shard = prepared.sequences()[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{shard.name} differs from its manifest"):
        PreparedLog.open(prepared.folder)
    _run(tmp_path, sample.settings)
    PreparedLog.open(prepared.folder)


KILL_IN_SECOND_SHARD = """
import os, signal, sys
from types import SimpleNamespace
from pathlib import Path
from adbeam.logs import pipeline
from adbeam.logs.config import LogsConfig
real = pipeline.assemble_shard
def assemble(spill, shard, **rest):
    if shard == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(spill, shard, **rest)
pipeline.assemble_shard = assemble
work_dir, settings = sys.argv[1:]
import json
pipeline.run(SimpleNamespace(work_dir=Path(work_dir), logs=LogsConfig.parse(json.loads(settings))), in_process=True)
"""


def test_a_killed_run_leaves_nothing_to_read_and_the_next_cleans_up(tmp_path):
    sample = write_sample_log(tmp_path, users=8, items=20)
    command = [sys.executable, "-c", KILL_IN_SECOND_SHARD, str(tmp_path), json.dumps(sample.settings)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert len(left) == 1 and left[0].startswith(".prepared.")
    with pytest.raises(UserError, match=r"there is no .*prepared; run adbeam prepare"):
        PreparedLog.open(tmp_path / "prepared")
    prepared = _run(tmp_path, sample.settings)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["prepared"]
    assert {path.name for path in prepared.folder.iterdir()} == {
        "account.json",
        "catalogue.parquet",
        "events",
        "manifest.json",
        "quarantine",
        "sequences",
        "trending.parquet",
    }


def _spoil(sample, case: str) -> None:
    events, catalogue = pq.read_table(sample.events), pq.read_table(sample.catalogue)
    if case == "empty log":
        pq.write_table(events[:0], sample.events)
    elif case == "empty catalogue":
        pq.write_table(catalogue[:0], sample.catalogue)
    elif case == "missing column":
        pq.write_table(events.drop_columns(["action"]), sample.events)
    elif case == "missing catalogue column":
        pq.write_table(catalogue.drop_columns(["item_id"]), sample.catalogue)
    elif case == "wrong type":
        nested = pa.array([[moment] for moment in events["timestamp"].to_pylist()])
        pq.write_table(events.set_column(3, "timestamp", nested), sample.events)
    elif case == "truncated log":
        sample.events.write_bytes(sample.events.read_bytes()[:-100])
    elif case == "damaged page":
        data = bytearray(sample.events.read_bytes())
        data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
        sample.events.write_bytes(bytes(data))
    elif case == "all in the future":
        late = pa.array([NEXT_CENTURY_MS] * events.num_rows)
        pq.write_table(events.set_column(3, "timestamp", late), sample.events)
    elif case == "foreign catalogue":
        others = pa.array([f"other{number}" for number in range(catalogue.num_rows)])
        pq.write_table(catalogue.set_column(0, "item_id", others), sample.catalogue)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("empty log", r"the log is empty"),
        ("empty catalogue", r"logs\.files\.catalogue.*no usable item"),
        ("missing column", r"events\.parquet has no column 'action'"),
        ("missing catalogue column", r"catalogue\.parquet has no column 'item_id'"),
        ("wrong type", r"timestamp: holds no numbers.*list"),
        ("truncated log", r"events\.parquet cannot be read as parquet.*truncated"),
        ("damaged page", r"events\.parquet cannot be read as Parquet"),
        ("all in the future", r"rows are bad .*timestamp is in the future.*max_quarantined|max_quarantined.*future"),
        ("foreign catalogue", r"item not in catalogue"),
    ],
)
def test_unusable_input_is_a_clear_error_and_publishes_nothing(tmp_path, case, message):
    sample = write_sample_log(tmp_path, users=4, items=20)
    _spoil(sample, case)
    with pytest.raises(UserError, match=message):
        _run(tmp_path, sample.settings)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_split_that_leaves_no_training_is_refused(tmp_path):
    sample = write_sample_log(tmp_path, users=4, items=20)
    early = {"by": "time", "validation_from": START_MS - DAY_MS, "test_from": START_MS}
    with pytest.raises(UserError, match="no event for training"):
        _run(tmp_path, sample.settings | {"split": early})


def test_an_item_with_two_different_rows_is_quarantined(tmp_path):
    sample = write_sample_log(tmp_path, users=4, items=20)
    items = pq.read_table(sample.catalogue).to_pylist()
    items += [items[0], {**items[19], "price": 99.0}]
    pq.write_table(pa.Table.from_pylist(items, schema=pq.read_schema(sample.catalogue)), sample.catalogue)
    prepared = _run(tmp_path, sample.settings | {"max_quarantined": 0.5})
    assert prepared.account["catalogue"] == {"rows_in": 22, "kept": 19, "quarantined": 2, "duplicates": 1}
    assert prepared.account["reasons"].keys() <= {"item not in catalogue"}
    assert "item19" not in prepared.catalogue()["item_id"].to_pylist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "files"}, "needs a section `files`"),
        ({"source": "files", "files": {"events": "a", "catalogue": "b"}}, "needs a section `split`"),
        ({"split": {"by": "time", "validation_from": 5, "test_from": 5}}, "earlier than test_from"),
        ({"split": {"by": "time"}}, "needs validation_from"),
        ({"split": {"by": "leave_last_out", "test_from": 5}}, "takes no validation_from"),
        ({"completejourney": {"store": 3}}, "did you mean 'stores'"),
        ({"shards": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        LogsConfig.parse(settings)


def test_moments_are_dates_texts_or_milliseconds():
    texts = LogsConfig.parse({"split": {"validation_from": "2017-10-02T04:00:00Z", "test_from": "2017-10-16"}}).split
    assert texts is not None
    assert texts.validation_from == 1_506_916_800_000
    assert texts.test_from == 1_508_112_000_000
