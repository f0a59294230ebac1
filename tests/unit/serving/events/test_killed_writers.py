"""Processes that acknowledge events are killed again and again: what was acknowledged is everywhere, once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
from tests.support.serving.event_writer import ASKED_MS, USERS

from adbeam.online.join import JoinTask, join_shard, samples_of
from adbeam.online.ledger import Ledger
from adbeam.records import HOUR_MS
from adbeam.serving.config import EventLogConfig, RequestLogConfig
from adbeam.serving.events.event_log import EventLog, RequestLog
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.workdir import WorkDir

ROOT = Path(__file__).parents[4]
EVENTS, KILLS = 1500, 3


def _writer(folder: Path, numbers: Sequence[int]) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.serving.event_writer", str(folder)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(" ".join(map(str, numbers)))
    process.stdin.close()
    return process


def _acknowledged(process: subprocess.Popen[str], lines: int | None) -> set[int]:
    """What it acknowledged until it is killed, after so many lines, or ends by itself."""
    assert process.stdout is not None
    told = list[str]()
    with process.stdout:
        while lines is None or len(told) < lines:
            told.append(process.stdout.readline())
            if not told[-1]:
                break
        if lines is not None:
            process.kill()
        told += process.stdout.readlines()
    process.wait()
    return {int(number) for line in told if line.endswith("\n") for number in line.split()}


def _requests(folder: Path) -> None:
    log = RequestLog(RequestLogConfig(folder=WorkDir(folder).requests), WorkDir(folder).events)
    for number in range(EVENTS):
        ad = {"item_id": "ad", "sid": [1], "probability": 0.5, "expected_ecpm": 1.0}
        body = {"request_id": f"r{number}", "ads": [ad], "served": {"model_version": "v", "source": "model"}}
        log.append(f"user-{number % USERS}", ASKED_MS, "feed", body)
    log.close()


def test_acknowledged_events_are_in_store_log_and_samples_once(tmp_path: Path) -> None:
    _requests(tmp_path)
    rng, acknowledged = random.Random(7), set[int]()
    for kill in range(KILLS + 1):
        left = [number for number in range(EVENTS) if number not in acknowledged]
        writers = [_writer(tmp_path, left[part::2]) for part in range(2)]  # two at once on one folder
        for writer in writers:
            acknowledged |= _acknowledged(writer, None if kill == KILLS else rng.randrange(1, 50))
    assert acknowledged == set(range(EVENTS))

    folder = WorkDir(tmp_path).events
    assert not list(folder.glob(".events-*"))
    logged = [name for path in folder.glob("*.parquet") for name in pq.read_table(path)["event_id"].to_pylist()]
    assert sorted(logged) == sorted(f"e{number}" for number in range(EVENTS))
    with closing(SqliteStore(WorkDir(tmp_path).histories, max_events=100_000)) as store:
        histories = [store.recent(f"user-{user}") for user in range(USERS)]
        moments = [int(moment) for history in histories if history for moment in history.timestamp_H]
    assert sorted(moments) == [ASKED_MS + number for number in range(EVENTS)]

    with closing(Ledger(WorkDir(tmp_path).online)) as ledger:
        claimed = ledger.claim({"events": folder, "requests": WorkDir(tmp_path).requests})
        assert claimed is not None
        task = JoinTask(tmp_path / "state.sqlite", ledger.inputs(claimed.number), 0, 1, 1, ASKED_MS + EVENTS,
                        24 * HOUR_MS, 0)  # fmt: skip
        counts = join_shard(task)
    assert (counts["events"], counts["duplicates"]) == (EVENTS, 0)
    samples = samples_of(tmp_path / "state.sqlite", 1)["request_id"].to_pylist()
    assert sorted(samples) == sorted(f"r{number}" for number in range(EVENTS))


def test_a_living_writer_keeps_its_journal(tmp_path: Path) -> None:
    writer = _writer(tmp_path, range(EVENTS))
    assert writer.stdout is not None and writer.stdout.readline()
    with closing(SqliteStore(WorkDir(tmp_path).histories)) as store:
        EventLog(EventLogConfig(folder=WorkDir(tmp_path).events), store).close()
    _acknowledged(writer, None)
    assert writer.returncode == 0
    logged = [name for path in WorkDir(tmp_path).events.glob("*.parquet") for name in pq.read_table(path)["event_id"]]
    assert len(logged) == len({name.as_py() for name in logged}) == EVENTS
