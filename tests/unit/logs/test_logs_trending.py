"""Trends: what a snapshot counts, that it knows nothing of its own hour, and that sliding sums are plain sums."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.logs.trending import (
    COUNTS_SCHEMA,
    FILE,
    LISTED,
    WINDOWS_HOURS,
    TrendingAds,
    TrendTable,
    count_by_hour,
    write_trending,
)
from adbeam.records import ACTIONS, HOUR_MS, ITEM_KINDS, SEQUENCE_SCHEMA

CONVERSION, CLICK = ACTIONS.index("conversion"), ACTIONS.index("click")
AD, ORGANIC = ITEM_KINDS.index("ad"), ITEM_KINDS.index("organic")


def counts(rows: list[tuple[int, str, int]]) -> pa.Table:
    hours, items, numbers = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table([pa.array(hours, pa.int64()), pa.array(items, pa.string()), pa.array(numbers, pa.int64())],
                    schema=COUNTS_SCHEMA)  # fmt: skip


def table_of(tmp_path, *shards: pa.Table) -> TrendTable:
    paths = [tmp_path / f"shard-{number}.parquet" for number in range(len(shards))]
    for path, shard in zip(paths, shards, strict=True):
        pq.write_table(shard, path)
    write_trending(paths, tmp_path / FILE)
    return TrendTable.read(tmp_path)


def test_only_ad_conversions_count_by_the_hour():
    events = [
        (0, "a", AD, CONVERSION), (HOUR_MS - 1, "a", AD, CONVERSION), (HOUR_MS, "a", AD, CONVERSION),
        (5, "b", ORGANIC, CONVERSION), (6, "c", AD, CLICK),
    ]  # fmt: skip
    n = len(events)
    row = {
        "user_id": "u", "split": [0] * n, "request_id": ["r"] * n, "timestamp": [e[0] for e in events],
        "item_id": [e[1] for e in events], "item_kind": [e[2] for e in events], "scene": ["home"] * n,
        "action": [e[3] for e in events], "value": [1.0] * n,
    }  # fmt: skip
    counted = count_by_hour(pa.Table.from_pylist([row], schema=SEQUENCE_SCHEMA))
    assert sorted(counted.to_pylist(), key=lambda r: r["hour"]) == [
        {"hour": 0, "item_id": "a", "count": 2},
        {"hour": 1, "item_id": "a", "count": 1},
    ]


def test_a_snapshot_knows_nothing_of_its_own_hour(tmp_path):
    table = table_of(tmp_path, counts([(100, "a", 3)]))
    assert len(table.at(100 * HOUR_MS + 5).item_N) == 0
    assert table.at(101 * HOUR_MS).item_N.tolist() == ["a"]


def test_windows_end_when_their_hours_have_passed(tmp_path):
    table = table_of(tmp_path, counts([(100, "a", 3)]), counts([(100, "b", 1)]))
    day = table.at((100 + 24) * HOUR_MS)
    assert day.item_N.tolist() == ["a", "b"] and np.allclose(day.share_NW, [[0.75] * 3, [0.25] * 3])
    later = table.at((100 + 25) * HOUR_MS)
    assert np.allclose(later.share_NW, [[0, 0.75, 0.75], [0, 0.25, 0.25]])
    assert len(table.at((100 + WINDOWS_HOURS[-1]) * HOUR_MS).item_N) == 2
    assert len(table.at((100 + WINDOWS_HOURS[-1] + 1) * HOUR_MS).item_N) == 0


def test_sliding_sums_are_plain_sums(tmp_path):
    draw = np.random.default_rng(0)
    rows = [(int(h), f"ad{i}", int(c)) for h, i, c in zip(
        draw.integers(0, 400, 900), draw.zipf(1.3, 900) % 200, draw.integers(1, 4, 900), strict=True)]  # fmt: skip
    table = table_of(tmp_path, counts(rows[:500]), counts(rows[500:]))
    for hour in (5, 90, 250, 420):
        windows = []
        for hours in WINDOWS_HOURS:
            window: Counter[str] = Counter()
            for h, item, count in rows:
                if hour - hours <= h < hour:
                    window[item] += count
            windows.append(window)
        expected, found = TrendingAds.of_counts(tuple(windows)), table.at(hour * HOUR_MS)
        assert found.item_N.tolist() == expected.item_N.tolist() and len(found.item_N) <= LISTED
        assert np.array_equal(found.share_NW, expected.share_NW)


def test_a_log_without_conversions_has_no_trends(tmp_path):
    assert len(table_of(tmp_path, counts([])).at(10**12).item_N) == 0
