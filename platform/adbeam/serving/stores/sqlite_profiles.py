"""The table of profiles in the file of the histories."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adbeam.serving.stores.store import DAY_SECONDS, Forgotten, now_ms

SCHEMA = """
CREATE TABLE IF NOT EXISTS profiles (
    user_id TEXT PRIMARY KEY, profile TEXT NOT NULL, written_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS profiles_by_age ON profiles (written_ms);
"""
KNOWN = (
    "SELECT asked.value, profile, items, timestamps, actions, kinds, event_values FROM json_each(?) AS asked"
    " LEFT JOIN histories ON histories.user_id = asked.value"
    " LEFT JOIN profiles ON profiles.user_id = asked.value AND written_ms >= ?"
)


def oldest_ms(days: float) -> int:
    """Profiles written before it count no longer."""
    return now_ms() - int(days * DAY_SECONDS * 1000)


def known(connection: sqlite3.Connection, user_ids: Sequence[str], days: float) -> Iterator[tuple[Any, ...]]:
    """(user, profile or None, the columns of the history or None each) of every user, in one query."""
    yield from connection.execute(KNOWN, (json.dumps(list(user_ids)), oldest_ms(days))).fetchall()


def put(connection: sqlite3.Connection, profiles: Mapping[str, str], days: float) -> None:
    """Write profiles in place of those before, an empty one takes it out; those that are too old go."""
    written = [(user_id, text, now_ms()) for user_id, text in profiles.items() if text]
    removed = [(user_id,) for user_id, text in profiles.items() if not text]
    connection.executemany("INSERT OR REPLACE INTO profiles VALUES (?, ?, ?)", written)
    connection.executemany("DELETE FROM profiles WHERE user_id = ?", removed)
    connection.execute("DELETE FROM profiles WHERE written_ms < ?", (oldest_ms(days),))


def forget(connection: sqlite3.Connection, user_id: str, days: float) -> Forgotten:
    """Take a user's rows out; one that was too old was none."""
    kept = connection.execute(
        "SELECT 1 FROM profiles WHERE user_id = ? AND written_ms >= ?", (user_id, oldest_ms(days))
    ).fetchone()
    connection.execute("DELETE FROM profiles WHERE user_id = ?", (user_id,))
    history = connection.execute("DELETE FROM histories WHERE user_id = ?", (user_id,)).rowcount > 0
    return Forgotten(kept is not None, history)
