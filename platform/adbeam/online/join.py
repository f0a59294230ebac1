"""The delayed feedback join: one shard of users at a time, each event in exactly one account.

A shard's state is one SQLite file; a round changes it in one transaction and is remembered there, so that a repeated
round changes nothing and reads back what it made. An event is

* `pending` while its request is unknown: the request's file may still be written;
* `used` once it is attributed to an ad of its request, inside the attribution window;
* `expired` when it came after the window, `orphan` when its request never came or did not show the ad.

A request and ad give a sample for the furthest action known. A later, further action (a conversion days after its
click) gives a correction: a sample that tells how far the earlier one went, so that weights add up to one whole.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.declared.encoder import Codes
from adbeam.logs.shards import shard_of
from adbeam.online.ledger import BUSY_SECONDS
from adbeam.records import ACTIONS, TOLD, TOLD_BY
from adbeam.sqlite_wal import enter_wal

STATES = ("pending", "used", "expired", "orphan")
SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("scene", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("action", pa.int8(), nullable=False),
        pa.field("before", pa.int8(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("event_ms", pa.int64(), nullable=False),
    ]
)
"""One learnt outcome. `action` indexes ACTIONS, `before` is what an earlier sample of the same ad said (-1: none),
`timestamp` the request's moment."""
_TABLES = """
CREATE TABLE IF NOT EXISTS applied (round INTEGER PRIMARY KEY, counts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (request_id TEXT PRIMARY KEY, user_id TEXT, timestamp INTEGER, scene TEXT,
                                     items TEXT, model_version TEXT, round INTEGER);
CREATE TABLE IF NOT EXISTS events (event_id TEXT PRIMARY KEY, request_id TEXT, user_id TEXT, item_id TEXT,
                                   timestamp INTEGER, action INTEGER, value REAL, state TEXT, round INTEGER);
CREATE TABLE IF NOT EXISTS told (request_id TEXT PRIMARY KEY, codes TEXT);
CREATE INDEX IF NOT EXISTS events_by_state ON events (state);
CREATE INDEX IF NOT EXISTS events_by_user ON events (user_id, timestamp);
CREATE TABLE IF NOT EXISTS outcomes (request_id TEXT, item_id TEXT, action INTEGER, value REAL,
                                     PRIMARY KEY (request_id, item_id));
CREATE TABLE IF NOT EXISTS samples (sample_id TEXT PRIMARY KEY, request_id TEXT, user_id TEXT, timestamp INTEGER,
                                    scene TEXT, item_id TEXT, action INTEGER, before INTEGER, value REAL,
                                    event_ms INTEGER, round INTEGER);
CREATE INDEX IF NOT EXISTS samples_by_round ON samples (round);
"""


@dataclass(frozen=True)
class JoinTask:
    """One shard in one round."""

    state: Path
    inputs: Path
    shard: int
    shards: int
    round: int
    now_ms: int
    """The newest moment that any log has told of: the loop's clock."""
    window_ms: int
    skew_ms: int
    told_by: str | None = None
    """Fingerprint of the encoder of declared features, where the model is told any; codes of others are not kept."""


def join_shard(task: JoinTask) -> dict[str, Any]:
    """Apply a round to a shard, unless it has been; returns {"events", "duplicates", "samples", ...counts by state}."""
    task.state.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(task.state, timeout=BUSY_SECONDS, isolation_level=None)) as db:
        enter_wal(db, BUSY_SECONDS)
        db.executescript(_TABLES)
        found = db.execute("SELECT counts FROM applied WHERE round = ?", (task.round,)).fetchone()
        if found is not None:
            return dict(json.loads(found[0]))
        db.execute("BEGIN IMMEDIATE")
        try:
            counts = _apply(db, task)
            db.execute("INSERT INTO applied VALUES (?, ?)", (task.round, json.dumps(counts)))
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
    return counts


def samples_of(state: Path, number: int) -> pa.Table:
    """SAMPLE_SCHEMA of one round, in the order of their events."""
    names = ", ".join(SAMPLE_SCHEMA.names)
    with closing(sqlite3.connect(state, timeout=BUSY_SECONDS)) as db:
        rows = db.execute(f"SELECT {names} FROM samples WHERE round = ? ORDER BY event_ms, sample_id", (number,))
        values = list(zip(*rows, strict=True)) or [()] * len(SAMPLE_SCHEMA)
    return pa.table([pa.array(column, field.type) for column, field in zip(values, SAMPLE_SCHEMA, strict=True)],
                    schema=SAMPLE_SCHEMA)  # fmt: skip


def told_of(state: Path, request_ids: Iterable[str]) -> dict[str, Codes]:
    """{request: the codes that the model was told by it}, of those whose codes are known."""
    found: dict[str, Codes] = {}
    with closing(sqlite3.connect(state, timeout=BUSY_SECONDS)) as db:
        for request_id in request_ids:
            row = db.execute("SELECT codes FROM told WHERE request_id = ?", (request_id,)).fetchone()
            if row is not None:
                found[request_id] = tuple(json.loads(row[0]))
    return found


def _apply(db: sqlite3.Connection, task: JoinTask) -> dict[str, int]:
    duplicates = events = 0
    asked = ("request_id", "user_id", "timestamp", "scene", "item_ids", "model_version")
    for row in _rows(task, "requests", (*asked, TOLD, TOLD_BY)):
        row["item_ids"] = json.dumps(row["item_ids"])
        values = [row[name] for name in asked]
        db.execute("INSERT OR IGNORE INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, task.round))
        if task.told_by is not None and row.get(TOLD_BY) == task.told_by:
            db.execute("INSERT OR IGNORE INTO told VALUES (?, ?)", (row["request_id"], json.dumps(row[TOLD])))
    columns = ("event_id", "request_id", "user_id", "item_id", "timestamp", "action", "price", "bid", "ecpm")
    for row in _rows(task, "events", columns):
        values = [row[name] for name in columns[:5]]
        worth = (row["price"], row["bid"], row["ecpm"]) if row["action"] == "conversion" else (row["bid"], row["ecpm"])
        value = next((float(money) for money in worth if money is not None), 0.0)
        cursor = db.execute(
            "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', ?)",
            (*values, ACTIONS.index(row["action"]), value, task.round),
        )
        events += 1
        duplicates += 1 - cursor.rowcount
    samples = _attribute(db, task)
    by_state = dict(db.execute("SELECT state, count(*) FROM events GROUP BY state"))
    return {"events": events, "duplicates": duplicates, "samples": samples,
            **{state: by_state.get(state, 0) for state in STATES}}  # fmt: skip


def _rows(task: JoinTask, kind: str, columns: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The shard's rows of the round's files, in the order of the files."""
    for path in sorted((task.inputs / kind).glob("*.parquet")):
        file = pq.ParquetFile(path)
        known = [name for name in columns if name in file.schema_arrow.names]  # TOLD is not in every log
        for batch in file.iter_batches(columns=known):
            user = pc.fill_null(batch.column("user_id"), "")
            mine = pa.array(shard_of(user, task.shards) == task.shard)
            yield from batch.filter(mine).to_pylist()


def _attribute(db: sqlite3.Connection, task: JoinTask) -> int:
    """Settle pending events; returns how many samples came of it."""
    changed: dict[tuple[str, str], tuple[int, float, int]] = {}
    requests: dict[str, tuple[Any, ...] | None] = {}
    pending = db.execute(
        "SELECT event_id, request_id, user_id, item_id, timestamp, action, value FROM events WHERE state = 'pending' "
        "ORDER BY timestamp, event_id"
    ).fetchall()
    for event_id, request_id, user_id, item_id, timestamp, action, value in pending:
        if request_id not in requests:
            requests[request_id] = db.execute(
                "SELECT user_id, timestamp, scene, items FROM requests WHERE request_id = ?", (request_id,)
            ).fetchone()
        state = _state(requests[request_id], user_id, item_id, timestamp, task)
        if state == "used":
            key = (request_id, item_id)
            furthest, money, moment = changed.get(key, (-1, 0.0, timestamp))
            money += value if ACTIONS[action] == "conversion" else 0.0
            changed[key] = (max(furthest, action), max(money, value), max(moment, timestamp))
        if state != "pending":
            db.execute("UPDATE events SET state = ?, round = ? WHERE event_id = ?", (state, task.round, event_id))
    return sum(_outcome(db, task, key, *new, requests[key[0]]) for key, new in changed.items())


def _state(request: tuple[Any, ...] | None, user_id: str, item_id: str, timestamp: int, task: JoinTask) -> str:
    if request is None:
        return "orphan" if task.now_ms - timestamp > task.window_ms else "pending"
    user, asked_ms, _, items = request
    if user != user_id or item_id not in json.loads(items) or timestamp < asked_ms - task.skew_ms:
        return "orphan"
    return "expired" if timestamp > asked_ms + task.window_ms else "used"


def _outcome(
    db: sqlite3.Connection,
    task: JoinTask,
    key: tuple[str, str],
    action: int,
    value: float,
    event_ms: int,
    request: tuple[Any, ...] | None,
) -> int:
    """Write down how far the user went with an ad; 1 where that is news worth a sample, else 0."""
    assert request is not None
    known = db.execute("SELECT action FROM outcomes WHERE request_id = ? AND item_id = ?", key).fetchone()
    before = -1 if known is None else int(known[0])
    if action <= before:
        return 0
    db.execute("INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?)", (*key, action, value))
    user_id, timestamp, scene, _ = request
    sample_id = f"{key[0]}/{key[1]}/{ACTIONS[action]}"
    db.execute(
        "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (sample_id, key[0], user_id, timestamp, scene, key[1], action, before, value, event_ms, task.round),
    )
    return 1


def audit(states: Iterable[Path], event_rows: int) -> dict[str, int]:
    """Every event row of the claimed files must be in one account: stored under its id, or a duplicate of one that is.

    `lost` are rows in neither, `duplicated` samples of one (request, ad, action) that were made twice.
    """
    totals = dict.fromkeys(("events", "duplicates", "stored", "samples", "duplicated", *STATES), 0)
    for state in states:
        if not state.is_file():
            continue
        with closing(sqlite3.connect(state, timeout=BUSY_SECONDS)) as db:
            for (counts,) in db.execute("SELECT counts FROM applied"):
                applied = json.loads(counts)
                totals["events"] += applied["events"]
                totals["duplicates"] += applied["duplicates"]
            totals["stored"] += db.execute("SELECT count(*) FROM events").fetchone()[0]
            totals["samples"] += db.execute("SELECT count(*) FROM samples").fetchone()[0]
            distinct = "SELECT count(*) FROM (SELECT DISTINCT request_id, item_id, action FROM samples)"
            totals["duplicated"] -= db.execute(distinct).fetchone()[0]
            for found, count in db.execute("SELECT state, count(*) FROM events GROUP BY state"):
                totals[found] += count
    totals["duplicated"] += totals["samples"]
    totals["lost"] = event_rows - totals["stored"] - totals["duplicates"]
    return totals
