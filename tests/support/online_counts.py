"""What the online loop learnt, counted from its two logs alone, without its join."""

from __future__ import annotations

import pyarrow.parquet as pq

from adbeam.online.join import samples_of
from adbeam.online.loop import OnlineSettings
from adbeam.online.rounds import account
from adbeam.records import ACTIONS
from adbeam.workdir import WorkDir


def recount(config: OnlineSettings) -> dict[str, int]:
    """The furthest action of each (request, ad) by the two logs alone, against the loop's samples.

    Counted here without the join: {"outcomes", "outcomes_lost", "outcomes_without_event"}. Every log file must still be
    there, and a round must have followed the last one.
    """
    window_ms = round(config.online.attribution_hours * 3_600_000)
    work_dir = WorkDir.of(config.work_dir)
    asked = {
        (row["request_id"], item): row["timestamp"]
        for path in sorted(work_dir.requests.glob("*.parquet"))
        for row in pq.read_table(path, columns=["request_id", "item_ids", "timestamp"]).to_pylist()
        for item in row["item_ids"]
    }
    told: dict[tuple[str, str], int] = {}
    for path in sorted(work_dir.events.glob("*.parquet")):
        for row in pq.read_table(path, columns=["request_id", "item_id", "timestamp", "action"]).to_pylist():
            pair = row["request_id"], row["item_id"]
            if pair in asked and row["timestamp"] <= asked[pair] + window_ms:
                told[pair] = max(told.get(pair, 0), ACTIONS.index(row["action"]))
    learnt: dict[tuple[str, str], int] = {}
    for state in (work_dir.online / "state").glob("*.sqlite"):
        for number in range(1, account(config)["rounds"] + 1):
            for row in samples_of(state, number).to_pylist():
                pair = row["request_id"], row["item_id"]
                learnt[pair] = max(learnt.get(pair, 0), row["action"])
    return {
        "outcomes": len(told),
        "outcomes_lost": sum(learnt.get(pair) != action for pair, action in told.items()),
        "outcomes_without_event": len(learnt.keys() - told.keys()),
    }
