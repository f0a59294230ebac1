"""The ledger in one SQLite file, for the replicas of one machine."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from adbeam.budgets.ledger import KEPT_DAYS, Account, Budget, Spending
from adbeam.errors import UserError
from adbeam.records import DAY_MS
from adbeam.sqlite_wal import enter_wal

WAIT_SECONDS = 10.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS budgets (campaign TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    campaign TEXT NOT NULL, day TEXT NOT NULL, money REAL NOT NULL, PRIMARY KEY (campaign, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted (event_id TEXT PRIMARY KEY, day TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reserved (
    replica TEXT NOT NULL, campaign TEXT NOT NULL, money REAL NOT NULL, until_ms INTEGER NOT NULL,
    PRIMARY KEY (replica, campaign)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS traffic (
    day TEXT NOT NULL, hour INTEGER NOT NULL, requests INTEGER NOT NULL, PRIMARY KEY (day, hour)
) WITHOUT ROWID;
"""
PRUNE_EVERY = 1000


class SqliteLedger:
    """Ledger in a file; raises UserError when it cannot be used."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._one_at_a_time = threading.Lock()
        self._spends = 0
        try:
            self._db = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            enter_wal(self._db, WAIT_SECONDS)
            self._db.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.path} is no ledger of budgets: {error}", remedy="name another file") from None

    def set(self, campaign: str, budget: Budget | None) -> None:
        """One statement."""
        with self._one_at_a_time:
            if budget is None:
                self._db.execute("DELETE FROM budgets WHERE campaign = ?", (campaign,))
            else:
                self._db.execute("INSERT OR REPLACE INTO budgets VALUES (?, ?)", (campaign, budget.model_dump_json()))

    def spend(self, spendings: Sequence[Spending]) -> int:
        """One transaction."""
        with self._one_at_a_time, self._transaction():
            fresh = [one for one in spendings if self._is_new(one)]
            self._db.executemany(
                "INSERT INTO spent VALUES (?, ?, ?)"
                " ON CONFLICT (campaign, day) DO UPDATE SET money = money + excluded.money",
                [(one.campaign, one.day, one.money) for one in fresh],
            )
            self._prune()
        return len(fresh)

    def reserve(self, replica: str, money: Mapping[str, float], until_ms: int) -> None:
        """One transaction."""
        with self._one_at_a_time, self._transaction():
            self._db.execute("DELETE FROM reserved WHERE replica = ?", (replica,))
            self._db.executemany(
                "INSERT INTO reserved VALUES (?, ?, ?, ?)",
                [(replica, name, sum_, until_ms) for name, sum_ in money.items()],
            )

    def accounts(self, day: str, now_ms: int) -> dict[str, Account]:
        """One query."""
        query = (
            "SELECT campaign, body,"
            " (SELECT money FROM spent WHERE campaign = budgets.campaign AND day = ?),"
            " (SELECT sum(money) FROM spent WHERE campaign = budgets.campaign),"
            " (SELECT sum(money) FROM reserved WHERE campaign = budgets.campaign AND until_ms > ?) FROM budgets"
        )
        with self._one_at_a_time:
            rows = self._db.execute(query, (day, now_ms)).fetchall()
            if rows:
                self._db.execute("DELETE FROM reserved WHERE until_ms < ?", (now_ms - DAY_MS,))
        return {
            name: Account(Budget.model_validate_json(body), today or 0.0, total or 0.0, reserved or 0.0)
            for name, body, today, total, reserved in rows
        }

    def saw(self, day: str, hour: int, requests: int) -> None:
        """One transaction, which forgets days of long ago."""
        with self._one_at_a_time, self._transaction():
            self._db.execute(
                "INSERT INTO traffic VALUES (?, ?, ?)"
                " ON CONFLICT (day, hour) DO UPDATE SET requests = requests + excluded.requests",
                (day, hour, requests),
            )
            self._db.execute(f"DELETE FROM traffic WHERE day < date(?, '-{KEPT_DAYS} days')", (day,))

    def traffic(self, days: Sequence[str]) -> dict[str, dict[int, int]]:
        """One query."""
        query = f"SELECT day, hour, requests FROM traffic WHERE day IN ({', '.join('?' * len(days))})"
        with self._one_at_a_time:
            rows = self._db.execute(query, tuple(days)).fetchall()
        found: dict[str, dict[int, int]] = {}
        for day, hour, requests in rows:
            found.setdefault(day, {})[hour] = requests
        return found

    def close(self) -> None:
        """Close the file."""
        with self._one_at_a_time:
            self._db.close()

    def _is_new(self, one: Spending) -> bool:
        values = (one.event_id, one.day)
        return self._db.execute("INSERT OR IGNORE INTO counted VALUES (?, ?)", values).rowcount == 1

    def _prune(self) -> None:
        """Forget ids of long ago; sums of days stay, for they add up to the total."""
        self._spends += 1
        if self._spends % PRUNE_EVERY == 0:
            self._db.execute(
                f"DELETE FROM counted WHERE day < date((SELECT max(day) FROM counted), '-{KEPT_DAYS} days')"
            )

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK on any error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")
