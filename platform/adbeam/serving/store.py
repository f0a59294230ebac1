"""User histories that replicas read: a protocol, and the embedded implementation in SQLite.

One row a user holds the newest events as packed arrays, so a read is one key lookup and a few buffer views. Appends
are idempotent by event id. Every replica of a node opens the same file: in write-ahead mode readers wait for no writer.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adbeam.errors import UserError
from adbeam.records import ACTIONS, ITEM_KINDS, Event

SCHEMA = """
CREATE TABLE IF NOT EXISTS histories (
    user_id TEXT PRIMARY KEY, items TEXT NOT NULL, timestamps BLOB NOT NULL, actions BLOB NOT NULL,
    kinds BLOB NOT NULL, event_values BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event_ids (place INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
PRUNE_EVERY = 1000
READ_WAIT_SECONDS = 0.05
"""A read stands in the way of a whole batch: rather an unknown user than a late answer."""
WRITE_WAIT_MS = 60_000
LOADED_FROM = "loaded_from"


@dataclass(frozen=True)
class UserHistory:
    """What is known about a user, oldest first. H events; `action_H` and `kind_H` index ACTIONS and ITEM_KINDS."""

    item_ids: list[str]
    timestamp_H: NDArray[np.int64]
    action_H: NDArray[np.int8]
    kind_H: NDArray[np.int8]
    value_H: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.item_ids)

    def before(self, timestamp_ms: int) -> UserHistory:
        """The events strictly before a moment."""
        end = int(np.searchsorted(self.timestamp_H, timestamp_ms, side="left"))
        return self if end == len(self) else self._take(slice(0, end))

    def newest(self, count: int) -> UserHistory:
        """The last `count` events."""
        return self if len(self) <= count else self._take(slice(len(self) - count, None))

    def extended(self, other: UserHistory) -> UserHistory:
        """Both histories in time order; equal times keep their order."""
        timestamp_H = np.concatenate([self.timestamp_H, other.timestamp_H])
        order = np.argsort(timestamp_H, kind="stable")
        item_ids = self.item_ids + other.item_ids
        return UserHistory(
            [item_ids[place] for place in order],
            timestamp_H[order],
            np.concatenate([self.action_H, other.action_H])[order],
            np.concatenate([self.kind_H, other.kind_H])[order],
            np.concatenate([self.value_H, other.value_H])[order],
        )

    def _take(self, part: slice) -> UserHistory:
        return UserHistory(
            self.item_ids[part], self.timestamp_H[part], self.action_H[part], self.kind_H[part], self.value_H[part]
        )


def user_history(rows: Iterable[tuple[str, int, int, int, float]]) -> UserHistory:
    """A history from (item_id, timestamp_ms, action index, kind index, value) rows, put in time order."""
    ordered = sorted(rows, key=lambda row: row[1])
    item_ids, timestamps, actions, kinds, values = zip(*ordered, strict=True) if ordered else ((), (), (), (), ())
    return UserHistory(
        list(item_ids),
        np.array(timestamps, np.int64),
        np.array(actions, np.int8),
        np.array(kinds, np.int8),
        np.array(values, np.float32),
    )


EMPTY = user_history(())


class HistoryStore(Protocol):
    """Keyed histories. Implementations are safe to call from several threads."""

    def recent(self, user_id: str) -> UserHistory | None:
        """The user's newest events, or None for an unknown user."""

    def recent_many(self, user_ids: Sequence[str]) -> list[UserHistory | None]:
        """`recent` of each, at the cost of one round trip."""

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Add events; for each, whether its id was new (false: counted before, ignored)."""

    def fill(self, source: str, histories: Iterable[tuple[str, UserHistory]]) -> int:
        """Write many histories once in the life of the store; returns users written, 0 when it was filled before.

        `source` is remembered. `histories` is not touched when there is nothing to do. Of several that call it at
        once, one writes and the others wait.
        """

    def close(self) -> None:
        """Release files and connections."""


class SqliteStore:
    """HistoryStore in one SQLite file; raises UserError when the file cannot be used."""

    def __init__(self, path: str | Path, *, max_events: int = 1024, max_event_ids: int = 5_000_000) -> None:
        self.path, self.max_events, self.max_event_ids = Path(path), max_events, max_event_ids
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writing = threading.Lock()
        self._appends = 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = self._connection()
            connection.execute(f"PRAGMA busy_timeout={WRITE_WAIT_MS}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.path} is no history store: {error}", remedy="move the file away") from None

    def recent(self, user_id: str) -> UserHistory | None:
        """The user's newest events, or None for an unknown user."""
        row = self._read(user_id)
        return _unpack(row) if row else None

    def recent_many(self, user_ids: Sequence[str]) -> list[UserHistory | None]:
        """One lookup each; the file is local."""
        return [self.recent(user_id) for user_id in user_ids]

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Add events in one transaction; for each, whether its id was new."""
        with self._writing, self.transaction() as connection:
            fresh = [self._claim(connection, event.event_id) for event in events]
            by_user: dict[str, list[Event]] = {}
            for event, is_new in zip(events, fresh, strict=True):
                if is_new:
                    by_user.setdefault(event.user_id, []).append(event)
            for user_id, added in by_user.items():
                row = self._read(user_id)
                history = (_unpack(row) if row else EMPTY).extended(user_history(map(event_row, added)))
                write_history(connection, user_id, history.newest(self.max_events))
            self._prune(connection)
        return fresh

    def fill(self, source: str, histories: Iterable[tuple[str, UserHistory]]) -> int:
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
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (LOADED_FROM, source))
        return users

    def fact(self, name: str) -> str | None:
        """A remembered fact about the store, such as what it was loaded from."""
        row = self._connection().execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def count_users(self) -> int:
        """Users with a history."""
        return int(self._connection().execute("SELECT count(*) FROM histories").fetchone()[0])

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

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.path, timeout=READ_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA synchronous=NORMAL")
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


def event_row(event: Event) -> tuple[str, int, int, int, float]:
    """An event as a history keeps it; its value is the conversion's price, or the bid or eCPM of a lesser action."""
    value = event.price if event.action == "conversion" else next((v for v in (event.bid, event.ecpm) if v), None)
    kind, action = ITEM_KINDS.index(event.item_kind), ACTIONS.index(event.action)
    return event.item_id, event.timestamp, action, kind, float(value or 0.0)


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


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return int(time.time() * 1000)


def _unpack(row: tuple[str, bytes, bytes, bytes, bytes]) -> UserHistory:
    items, timestamps, actions, kinds, values = row
    return UserHistory(
        json.loads(items),
        np.frombuffer(timestamps, np.int64),
        np.frombuffer(actions, np.int8),
        np.frombuffer(kinds, np.int8),
        np.frombuffer(values, np.float32),
    )
