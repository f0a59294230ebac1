"""The order of a shard: as a plain sort and a comparison of whole rows give it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from adbeam.logs.shards import order_events
from adbeam.logs.validate import EVENT_ID_TAKEN
from adbeam.records import EVENT_SCHEMA


def random_events(seed: int, rows: int, ids: int) -> pa.Table:
    rng = np.random.default_rng(seed)

    def words(letter: str, count: int) -> list[str]:
        return [f"{letter}{number}" for number in rng.integers(0, count, rows)]

    columns = {name: words(name[0], 3) for name in ("item_id", "item_kind", "scene", "action")}
    columns |= {"event_id": words("e", ids), "request_id": words("r", 3), "user_id": words("u", 12)}
    filled: dict[str, list[Any]] = {
        **columns,
        "timestamp": rng.integers(0, 5, rows).tolist(),
        "bid": [None] * rows,
        "ecpm": [None] * rows,
        "price": [(None, 1.0, 2.0)[place] for place in rng.integers(0, 3, rows)],
        "position": [(None, 1, 2)[place] for place in rng.integers(0, 3, rows)],
    }
    return pa.table({name: filled[name] for name in EVENT_SCHEMA.names}, schema=EVENT_SCHEMA)


def sort_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """User, moment, request, position (none comes last), event."""
    position = 1000 if row["position"] is None else row["position"]
    return row["user_id"], row["timestamp"], row["request_id"], position, row["event_id"]


def one_by_one(events: pa.Table) -> tuple[list[dict[str, Any]], int]:
    """(kept rows, refused rows)."""
    distinct = list({tuple(row.items()): row for row in events.to_pylist()}.values())
    distinct.sort(key=sort_key)
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for row in distinct:
        kept.setdefault((row["user_id"], row["event_id"]), row)
    return list(kept.values()), len(distinct) - len(kept)


@pytest.mark.parametrize("ids", [2, 40, 1_000_000], ids=["all clash", "some clash", "none clash"])
@pytest.mark.parametrize("rows", [0, 1, 400])
def test_order_duplicates_and_taken_ids(rows: int, ids: int) -> None:
    events = random_events(rows + ids, rows, ids)
    events = pa.concat_tables([events, events.slice(0, rows // 3)])  # exact duplicates, in two chunks
    kept, refused = order_events(events)
    expected, taken = one_by_one(events)
    assert kept.to_pylist() == expected
    assert refused["reason"].to_pylist() == [EVENT_ID_TAKEN] * taken
