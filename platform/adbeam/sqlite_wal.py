"""SQLite in write-ahead mode (WAL): readers wait for no writer. Every SQLite file of adbeam is opened this way."""

from __future__ import annotations

import sqlite3
import time

RETRY_SECONDS = 0.01


def enter_wal(connection: sqlite3.Connection, wait_seconds: float) -> None:
    """Put the file into write-ahead mode, while others may do the same; raises sqlite3.DatabaseError.

    SQLite's own busy timeout does not cover the change of mode: of processes that open a new file at once all but one
    would hear "database is locked" without a wait.
    """
    until = time.monotonic() + wait_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
        time.sleep(RETRY_SECONDS)
