"""User histories in one SQLite file a node.

One row a user holds the newest events as packed arrays, so a read is one key lookup and a few buffer views. Appends
are idempotent by event id. Every replica of a node opens the same file: in write-ahead mode readers wait for no writer.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np

from adbeam.errors import UserError
from adbeam.logs.trending import WINDOWS_HOURS, windows_of
from adbeam.records import Event
from adbeam.serving.config import StoreConfig
from adbeam.serving.stores import sqlite_profiles
from adbeam.serving.stores.store import (
    EMPTY,
    KEPT_HOURS,
    Forgotten,
    HourCount,
    Known,
    UserHistory,
    event_row,
    hour_counts,
    user_history,
)
from adbeam.sqlite_wal import enter_wal

SCHEMA = """
CREATE TABLE IF NOT EXISTS histories (
    user_id TEXT PRIMARY KEY, items TEXT NOT NULL, timestamps BLOB NOT NULL, actions BLOB NOT NULL,
    kinds BLOB NOT NULL, event_values BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event_ids (place INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS batches (
    source TEXT NOT NULL, number INTEGER NOT NULL, fresh BLOB NOT NULL, PRIMARY KEY (source, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conversions (
    hour INTEGER NOT NULL, item_id TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (hour, item_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
PRUNE_EVERY = 1000
"""Appends between two prunings: they keep a bound on the file and need not be exact."""
READ_WAIT_SECONDS = 0.05
"""A read stands in the way of a whole batch: rather an unknown user than a late answer."""
WRITE_WAIT_MS = 60_000
LOADED_FROM = "loaded_from"


class SqliteStore:
    """HistoryStore in one SQLite file; raises UserError when the file cannot be used."""

    def __init__(self, path: str | Path, *, max_events: int = 1024, max_event_ids: int = 5_000_000,
                 profile_days: float = 90.0) -> None:  # fmt: skip
        self.path, self.max_events, self.max_event_ids = Path(path), max_events, max_event_ids
        self.profile_days = profile_days
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writing = threading.Lock()
        self._appends = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = self._connection(WRITE_WAIT_MS / 1000)
            connection.execute(f"PRAGMA busy_timeout={WRITE_WAIT_MS}")
            connection.executescript(SCHEMA + sqlite_profiles.SCHEMA)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.path} is no history store: {error}", remedy="move the file away") from None

    @classmethod
    def of(cls, config: StoreConfig) -> Self:
        """The store of a configuration."""
        bounds = {"max_events": config.max_events, "max_event_ids": config.max_event_ids}
        return cls(config.path, **bounds, profile_days=config.profile_days)

    def recent(self, user_id: str) -> UserHistory | None:
        """The user's newest events, or None for an unknown user."""
        row = self._read(user_id)
        return _unpack(row) if row else None

    def recent_many(self, user_ids: Sequence[str]) -> list[UserHistory | None]:
        """One query for a whole batch: each waits anew for the interpreter's lock, which costs more than the lookup."""
        query = (
            "SELECT user_id, items, timestamps, actions, kinds, event_values FROM histories"
            " WHERE user_id IN (SELECT value FROM json_each(?))"
        )
        rows = self._connection().execute(query, (json.dumps(list(user_ids)),)).fetchall()
        found = {user_id: _unpack(row) for user_id, *row in rows}
        return [found.get(user_id) for user_id in user_ids]

    def known_many(self, user_ids: Sequence[str]) -> list[Known]:
        """Histories and profiles in one query."""
        rows = sqlite_profiles.known(self._connection(), user_ids, self.profile_days)
        found = {
            user_id: Known(None if history[0] is None else _unpack(history), profile)
            for user_id, profile, *history in rows
        }
        return [found[user_id] for user_id in user_ids]

    def put_profiles(self, profiles: Mapping[str, str]) -> None:
        """Write profiles in one transaction."""
        with self._writing, self.transaction() as connection:
            sqlite_profiles.put(connection, profiles, self.profile_days)

    def forget(self, user_id: str) -> Forgotten:
        """Take a user's profile and history out, in one transaction."""
        with self._writing, self.transaction() as connection:
            return sqlite_profiles.forget(connection, user_id, self.profile_days)

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Add events in one transaction; for each, whether its id was new."""
        with self._writing, self.transaction() as connection:
            return self._added(connection, events)

    def append_once(self, source: str, number: int, events: Sequence[Event]) -> list[bool]:
        """Add a batch of an event log in one transaction that the disk has (RemembersBatches)."""
        self._connection().execute("PRAGMA synchronous=FULL")  # this thread's: it acknowledges what it writes
        with self._writing, self.transaction() as connection:
            known = connection.execute("SELECT fresh FROM batches WHERE source = ? AND number = ?", (source, number))
            if (said := known.fetchone()) is not None:
                return [bool(is_new) for is_new in said[0]]
            fresh = self._added(connection, events)
            connection.execute("INSERT INTO batches VALUES (?, ?, ?)", (source, number, bytes(fresh)))
        return fresh

    def forget_source(self, source: str) -> None:
        """No batch of `source` will come again."""
        with self._writing, self.transaction() as connection:
            connection.execute("DELETE FROM batches WHERE source = ?", (source,))

    def _added(self, connection: sqlite3.Connection, events: Sequence[Event]) -> list[bool]:
        fresh = [self._claim(connection, event.event_id) for event in events]
        by_user: dict[str, list[Event]] = {}
        for event, is_new in zip(events, fresh, strict=True):
            if is_new:
                by_user.setdefault(event.user_id, []).append(event)
        for user_id, added in by_user.items():
            row = self._read(user_id)
            history = (_unpack(row) if row else EMPTY).extended(user_history(map(event_row, added)))
            write_history(connection, user_id, history.newest(self.max_events))
        count_conversions(connection, hour_counts(chain.from_iterable(by_user.values())))
        self._prune(connection)
        return fresh

    def conversions(self, hour: int) -> tuple[Counter[str], ...]:
        """{item: ad conversions} of every window of logs.trending that ends where `hour` begins."""
        query = "SELECT hour, item_id, count FROM conversions WHERE hour >= ? AND hour < ?"
        return windows_of(self._connection().execute(query, (hour - WINDOWS_HOURS[-1], hour)), hour)

    def fill(
        self, source: str, histories: Iterable[tuple[str, UserHistory]], conversions: Iterable[HourCount] = ()
    ) -> int:
        """Write many histories in one transaction, once; returns users written, 0 when it was filled before."""
        if self.fact(LOADED_FROM) is not None:  # a later load would overwrite what users have done since
            return 0
        with self.transaction() as connection:
            if connection.execute("SELECT 1 FROM facts WHERE name = ?", (LOADED_FROM,)).fetchone():
                return 0  # another replica filled it while this one waited
            users = 0
            for user_id, history in histories:
                write_history(connection, user_id, history.newest(self.max_events))
                users += 1
            count_conversions(connection, conversions)
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (LOADED_FROM, source))
        return users

    def fact(self, name: str) -> str | None:
        """A remembered fact about the store, such as what it was loaded from."""
        row = self._connection().execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def transaction(self) -> _Transaction:
        """All or nothing; waits for other writers, in this process or another."""
        connection = self._connection()
        connection.execute(f"PRAGMA busy_timeout={WRITE_WAIT_MS}")
        return _Transaction(connection)

    def close(self) -> None:
        """Close every thread's connection."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()

    def _read(self, user_id: str) -> tuple[str, bytes, bytes, bytes, bytes] | None:
        query = "SELECT items, timestamps, actions, kinds, event_values FROM histories WHERE user_id = ?"
        found: tuple[str, bytes, bytes, bytes, bytes] | None = self._connection().execute(query, (user_id,)).fetchone()
        return found

    def _claim(self, connection: sqlite3.Connection, event_id: str) -> bool:
        return connection.execute("INSERT OR IGNORE INTO event_ids(event_id) VALUES (?)", (event_id,)).rowcount == 1

    def _prune(self, connection: sqlite3.Connection) -> None:
        self._appends += 1
        if self._appends % PRUNE_EVERY == 0:
            connection.execute(
                "DELETE FROM event_ids WHERE place <= (SELECT max(place) FROM event_ids) - ?", (self.max_event_ids,)
            )
            connection.execute(
                "DELETE FROM conversions WHERE hour < (SELECT max(hour) FROM conversions) - ?", (KEPT_HOURS,)
            )

    def _connection(self, wait_seconds: float = READ_WAIT_SECONDS) -> sqlite3.Connection:
        """This thread's connection; a new one waits so long where others open the file for the first time."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.path, timeout=READ_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            enter_wal(connection, wait_seconds)
            connection.execute("PRAGMA synchronous=NORMAL")  # touches the file: before WAL it would hear of a lock
            self._local.connection = connection
            self._connections.append(connection)
        return connection


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK on any error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self.connection.execute("BEGIN IMMEDIATE")
        return self.connection

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.connection.execute("ROLLBACK" if kind else "COMMIT")


def write_history(connection: sqlite3.Connection, user_id: str, history: UserHistory) -> None:
    """Put a user's history in place of the stored one."""
    connection.execute(
        "INSERT OR REPLACE INTO histories VALUES (?, ?, ?, ?, ?, ?)",
        (
            user_id,
            json.dumps(history.item_ids),
            history.timestamp_H.tobytes(),
            history.action_H.tobytes(),
            history.kind_H.tobytes(),
            history.value_H.tobytes(),
        ),
    )


def count_conversions(connection: sqlite3.Connection, counts: Iterable[HourCount]) -> None:
    """Add to the counts of ad conversions by hour."""
    connection.executemany(
        "INSERT INTO conversions VALUES (?, ?, ?)"
        " ON CONFLICT (hour, item_id) DO UPDATE SET count = count + excluded.count",
        counts,
    )


def _unpack(row: Sequence[Any]) -> UserHistory:
    items, timestamps, actions, kinds, values = row
    return UserHistory(
        json.loads(items),
        np.frombuffer(timestamps, np.int64),
        np.frombuffer(actions, np.int8),
        np.frombuffer(kinds, np.int8),
        np.frombuffer(values, np.float32),
    )
