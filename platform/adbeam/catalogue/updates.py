"""The update log: durable and ordered, all ad changes that every replica follows.

An admin request reaches one replica; it appends here, and all replicas, itself included, read on from the number they
have seen last. A bundle carries a watermark: the number of the newest change its catalogue already holds; a replica
that swaps to it replays what came after. Numbers start at 1, have no gaps, and never change.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adbeam.errors import UserError
from adbeam.records import MOST_MONEY, CatalogueItem, ItemKind, TargetingRules
from adbeam.sqlite_wal import enter_wal

PAGE = 1000
BUSY_SECONDS = 10.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS updates (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp_ms INTEGER NOT NULL,
    body TEXT NOT NULL
)
"""


class AdChange(BaseModel):
    """One change of one ad, as it is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: Literal["insert", "update", "pause", "resume", "remove"] = Field(
        description="insert adds an ad or replaces a known one; update sets its live eCPM, its targeting, "
        "its advertiser, its campaign, or several of them."
    )
    item_id: str = Field(min_length=1, max_length=128)
    ecpm: float | None = Field(default=None, ge=0, le=MOST_MONEY, allow_inf_nan=False, description="Of an update.")
    item: CatalogueItem | None = Field(default=None, description="The ad, of an insert.")
    targeting: TargetingRules | None = Field(
        default=None, description="Of an update: whom the ad is for from now on; {}: everybody."
    )
    advertiser: str | None = Field(default=None, max_length=256, description="Of an update; empty: of none.")
    campaign: str | None = Field(default=None, max_length=256, description="Of an update; empty: of none.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.operation == "insert" and (self.item is None or self.item.item_id != self.item_id):
            raise ValueError("an insert needs the item, with the same item_id")
        if self.item is not None and self.item.kind != ItemKind.AD:
            raise ValueError("only ads are inserted: the item's kind is not ad")
        given = [name for name in ("targeting", "advertiser", "campaign") if getattr(self, name) is not None]
        if self.operation == "update" and self.ecpm is None and not given:
            raise ValueError("an update needs ecpm, targeting, advertiser or campaign")
        if self.operation != "update" and given:
            raise ValueError(f"{given[0]} is of an update; that of an insert stands in its item")
        return self


class AdUpdate(AdChange):
    """A change as the log keeps it. The SID of an insert is a hint, valid for one version of the codebooks."""

    sid: tuple[int, ...] | None = None
    tokenizer_version: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_kept_before_the_bound(cls, values: Any) -> Any:
        """Money above MOST_MONEY that an older version let in is read as that: a stored log must stay readable."""
        if isinstance(values, dict):
            item = values.get("item")
            values = _capped(values) | ({"item": _capped(item)} if isinstance(item, dict) else {})
        return values


def _capped(stored: dict[str, Any]) -> dict[str, Any]:
    money = {name: stored[name] for name in ("price", "ecpm") if isinstance(stored.get(name), int | float)}
    return stored | {name: min(value, MOST_MONEY) for name, value in money.items()}


class Numbered(NamedTuple):
    """An update with its place in the log and when it was appended."""

    number: int
    timestamp_ms: int
    update: AdUpdate


class UpdateLog(Protocol):
    """An ordered, durable log that many processes append to and follow."""

    def append(self, updates: Sequence[AdUpdate]) -> int:
        """Store `updates` together and return the number of the last; they survive a crash once this returns."""

    def read(self, after: int, limit: int = PAGE) -> list[Numbered]:
        """The updates numbered above `after`, oldest first; raises UserError when some of them were dropped."""

    def last(self) -> int:
        """The newest number; 0 for an empty log."""

    def drop(self, through: int) -> None:
        """Forget the updates up to and including `through`, which every bundle still in use already holds."""


class SqliteUpdateLog:
    """The log in one SQLite file: for the replicas of one machine, or of a shared POSIX file system with locks."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._local = threading.local()
        with self._connection() as connection:
            connection.execute(SCHEMA)

    def append(self, updates: Sequence[AdUpdate]) -> int:
        """One transaction; waits up to BUSY_SECONDS for another writer."""
        if not updates:
            return self.last()
        now_ms = int(time.time() * 1000)
        rows = [(now_ms, update.model_dump_json(exclude_none=True)) for update in updates]
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO updates (timestamp_ms, body) VALUES (?, ?)", rows)
            return int(connection.execute("SELECT MAX(number) FROM updates").fetchone()[0])

    def read(self, after: int, limit: int = PAGE) -> list[Numbered]:
        """Two indexed queries. The newest number is read first: what is appended meanwhile is no gap."""
        last = self.last()
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT number, timestamp_ms, body FROM updates WHERE number > ? ORDER BY number LIMIT ?",
                (after, limit),
            ).fetchall()
        check_follows(after, rows[0][0] if rows else last + 1, self.path)
        return [Numbered(number, stamp, AdUpdate.model_validate_json(body)) for number, stamp, body in rows]

    def last(self) -> int:
        """Also right after `drop`: SQLite keeps the counter."""
        with self._connection() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'updates'").fetchone()
        return int(row[0]) if row else 0

    def drop(self, through: int) -> None:
        """One transaction."""
        with self._connection() as connection:
            connection.execute("DELETE FROM updates WHERE number <= ?", (through,))

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection, used as `with` for one transaction; raises UserError on a file that is no log."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
                enter_wal(connection, BUSY_SECONDS)
                connection.execute("PRAGMA synchronous = FULL")
            except sqlite3.DatabaseError as error:
                raise UserError(f"{self.path} is not an update log: {error}", remedy="name another file") from None
            self._local.connection = connection
        return connection


def check_follows(after: int, first: int, log: object) -> None:
    """Raise UserError when the update that `log` has next, number `first`, does not follow the number `after`."""
    if first > after + 1:
        raise UserError(
            f"{log} no longer holds the updates {after + 1} to {first - 1}", remedy="load a bundle exported after them"
        )
    if first <= after:
        raise UserError(
            f"{log} ends at {first - 1}, before the watermark {after}",
            remedy="use the log the bundle was exported with, or a bundle without a watermark",
        )
