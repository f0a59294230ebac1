"""Events when the disk, the clock, the store or an older version is in the way: never a 202 for a loss."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.support.asgi import call
from tests.support.serving.event_writer import event
from tests.support.serving.gated_engine import GatedEngine, model_of

from adbeam.records import Event
from adbeam.serving.config import EventLogConfig, ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.events.event_log import EventLog, NotKept
from adbeam.serving.events.journal import Journal
from adbeam.serving.http.app import build_api
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore


def config(folder: Path, **more: object) -> EventLogConfig:
    return EventLogConfig.parse({"folder": folder, **more})


def logged(folder: Path) -> list[str]:
    return sorted(name for path in folder.glob("*.parquet") for name in pq.read_table(path)["event_id"].to_pylist())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "h.sqlite")) as opened:
        yield opened


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 256 KiB at `folder`."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may mount nothing")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_file_holds_events_with_hashed_users_and_no_journal_is_left(tmp_path: Path, store: SqliteStore) -> None:
    log = EventLog(config(tmp_path / "events", rotate_rows=10), store)
    assert log.keep([event(number) for number in range(10)]) == [True] * 10
    assert log.keep([event(9), event(10), event(10)]) == [False, True, False]
    log.close()
    folder = tmp_path / "events"
    assert logged(folder) == sorted(f"e{number}" for number in range(11))
    users = {user for path in folder.glob("*.parquet") for user in pq.read_table(path)["user_id"].to_pylist()}
    assert users == {log.user_hash(f"user-{number}") for number in range(11)}
    assert not list(folder.glob(".events-*"))
    again = EventLog(config(folder), store)
    assert again.user_hash("user-0") == log.user_hash("user-0")
    again.close()


def test_a_journal_is_its_owners_alone_until_a_file_is_made_of_it(tmp_path: Path, store: SqliteStore) -> None:
    log = EventLog(config(tmp_path), store)
    log.keep([event(1)])
    (path,) = tmp_path.glob(".events-*.journal")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and b"user-1" in path.read_bytes()
    log.close()


def test_a_full_disk_refuses_events_and_loses_none(tmp_path: Path, store: SqliteStore) -> None:
    folder = tmp_path / "events"
    with small_disk(folder):
        log = EventLog(config(folder, rotate_seconds=0.05), store)
        kept, refusals = 0, 0
        (folder / "filler").write_bytes(os.urandom(150_000))
        for number in range(5000):
            try:
                assert log.keep([event(number)]) == [True]
                kept += 1
            except NotKept as error:
                refusals += 1
                assert str(error) == "the event log cannot be written (No space left on device)"
                if refusals == 3:
                    break
        assert refusals == 3
        (folder / "filler").unlink()
        while True:
            try:
                assert log.keep([event(6000)]) == [True]
                break
            except NotKept:
                time.sleep(0.01)
        log.close()
        names = logged(folder)
        assert len(names) == len(set(names)) == kept + 1
        with SqliteStoreRows(store) as ids:
            assert sorted(ids) == names


class SqliteStoreRows:
    """The event ids that a store has counted."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def __enter__(self) -> list[str]:
        with self._store.transaction() as connection:
            return [name for (name,) in connection.execute("SELECT event_id FROM event_ids")]

    def __exit__(self, *error: object) -> None:
        return None


async def test_http_says_why_events_are_refused(tmp_path: Path, store: SqliteStore) -> None:
    folder = tmp_path / "events"
    metrics = Metrics()
    with small_disk(folder), ExitStack() as at_end:
        log = EventLog(config(folder), store)
        service = RecommenderService(
            ServingConfig.parse({}), model_of(GatedEngine()), read_policy("deadline"), store, metrics, log
        )
        at_end.callback(service.close)
        service.start()
        api = build_api(service)
        posted = {"events": [event(1).model_dump(mode="json")]}
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        refused = await call(api, "POST", "/v1/events", posted)
        assert refused.status == 503 and refused.headers["retry-after"] == "1"
        assert refused.json["detail"] == (
            "the event log cannot be written (Read-only file system); send the events again"
        )
        assert "adbeam_store_failures" in repr(metrics.take())
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        taken = await call(api, "POST", "/v1/events", posted)
        assert (taken.status, taken.json["accepted"]) == (202, 1)
        assert (await call(api, "POST", "/v1/events", posted)).json == {"accepted": 0, "duplicates": 1}
        log.close()
        assert logged(folder) == ["e1"]


def test_files_of_a_clock_that_jumps_are_kept(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, years in enumerate((0, -30, 30, -30)):
        moment = time.time_ns() + years * 365 * 86_400 * 10**9
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda moment=moment: moment)
            log = EventLog(config(tmp_path, rotate_seconds=0.01), store)
            log.keep([event(number)])
            log.close()
    assert logged(tmp_path) == ["e0", "e1", "e2", "e3"]


def test_files_and_journals_of_other_versions_are_left_alone(tmp_path: Path, store: SqliteStore) -> None:
    (tmp_path / "events-1-old.parquet").write_bytes(b"not of today")
    (tmp_path / ".events-2-newer.journal").write_bytes(b"adbeam journal 9\n" + bytes(range(200)))
    log = EventLog(config(tmp_path), store)
    assert log.keep([event(1)]) == [True]
    log.close()
    assert (tmp_path / ".events-2-newer.journal").exists() and (tmp_path / "events-1-old.parquet").exists()
    assert len(list(tmp_path.glob("events-*.parquet"))) == 2


class Unsteady:
    """A store whose answer may get lost after it was given, with or without a memory of it."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.failing = store, False

    def append_once(self, source: str, number: int, events: Sequence[Event]) -> list[bool]:
        fresh = self.store.append_once(source, number, events)
        if self.failing:
            raise TimeoutError
        return fresh

    def forget_source(self, source: str) -> None:
        self.store.forget_source(source)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_store_that_took_events_and_did_not_say_so(tmp_path: Path, store: SqliteStore, is_killed: bool) -> None:
    unsteady = Unsteady(store)
    log = EventLog(config(tmp_path / "events"), unsteady)  # type: ignore[arg-type]
    log.keep([event(1)])
    unsteady.failing = True
    for _ in range(3):
        with pytest.raises(NotKept, match="the history store cannot be written"):
            log.keep([event(1), event(2)])
    assert len(list((tmp_path / "events").glob(".events-*.journal"))) == 1
    unsteady.failing = False
    if not is_killed:
        assert log.keep([event(2), event(3)]) == [False, True]
    log.close()
    assert logged(tmp_path / "events") == ["e1", "e2"] + ["e3"] * (not is_killed)


def test_records_behind_a_torn_one_do_not_count(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "events")
    for payload in (b"one", b"two", b"three"):
        journal.begin(payload)
    whole = journal.path.read_bytes()
    journal.close()
    for size in range(len(whole)):
        journal.path.write_bytes(whole[:size])
        claimed = Journal.claim(journal.path)
        assert claimed is not None
        read = [record.payload for record in claimed.records()]
        assert read == [b"one", b"two", b"three"][: len(read)] and (size < len(whole)) == (len(read) < 3)
        claimed.close()
    damaged = bytearray(whole)
    damaged[-7] ^= 1
    journal.path.write_bytes(damaged)
    claimed = Journal.claim(journal.path)
    assert claimed is not None and [record.payload for record in claimed.records()] == [b"one", b"two"]
    assert Journal.claim(journal.path) is None  # it has an owner now
    claimed.remove()
    assert Journal.claim(journal.path) is None
