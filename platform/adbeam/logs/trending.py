"""Trending ads: those with most conversions of the last day, three days and week, hour by hour.

Where the training split has no conversion, clicks are counted in their place (`logs.prepared.strongest_action`).
A snapshot of hour h counts conversions strictly before h, so a request at any moment of that hour may be told of it.
Demand for ads moves faster than a model is trained: a campaign that began yesterday is in no weight yet, but here.

Shapes: N ads of a snapshot, most trending first; W windows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.logs.requests import AD
from adbeam.records import ACTIONS, HOUR_MS

FILE = "trending.parquet"
WINDOWS_HOURS = (24, 72, 168)
LISTED = 64
"""Ads a snapshot holds at most."""
SCHEMA = pa.schema(
    [
        ("hour", pa.int64()),
        ("item_id", pa.string()),
        *((f"share_{hours}h", pa.float32()) for hours in WINDOWS_HOURS),
    ]
)
COUNTS_SCHEMA = pa.schema([("hour", pa.int64()), ("item_id", pa.string()), ("count", pa.int64())])


@dataclass(frozen=True)
class TrendingAds:
    """`share_NW`: which share of all ad conversions of the window the ad had."""

    item_N: np.ndarray
    share_NW: np.ndarray

    @classmethod
    def of_counts(cls, count_by_window: tuple[Mapping[str, int], ...], listed: int = LISTED) -> TrendingAds:
        """From {item: conversions} of each window, the shortest first; ties go to the smaller item id."""
        items = sorted(count_by_window[-1])
        count_NW = np.array([[counts.get(item, 0) for counts in count_by_window] for item in items], dtype=np.int64)
        place, share_NW = _most_trending(count_NW.reshape(len(items), len(count_by_window)), listed)
        return cls(np.array(items, dtype=object)[place], share_NW)


def windows_of(rows: Iterable[tuple[int, str, int]], hour: int) -> tuple[Counter[str], ...]:
    """{item: conversions} of every window that ends where `hour` begins, from (hour, item, conversions) rows."""
    counted: tuple[Counter[str], ...] = tuple(Counter() for _ in WINDOWS_HOURS)
    for at, item, count in rows:
        for window, hours in zip(counted, WINDOWS_HOURS, strict=True):
            if hour - hours <= at < hour:
                window[item] += count
    return counted


NOTHING = TrendingAds(np.zeros(0, object), np.zeros((0, len(WINDOWS_HOURS)), np.float32))


class TrendTable:
    """Snapshots by hour."""

    def __init__(self, table: pa.Table) -> None:
        hour_n = table["hour"].to_numpy()
        items = table["item_id"].unify_dictionaries().combine_chunks().dictionary_encode()
        self.items = items.dictionary.to_numpy(zero_copy_only=False)
        """The distinct ads of all snapshots."""
        self.item_n = items.indices.to_numpy()
        """Which of `items` a row is of, snapshot after snapshot."""
        self.share_nW = np.stack([table[f"share_{hours}h"].to_numpy() for hours in WINDOWS_HOURS], axis=1)
        start = np.flatnonzero(np.diff(hour_n, prepend=-1))  # they are stored hour by hour, and no hour is negative
        self.start = np.append(start, len(hour_n))
        """The first row of each snapshot, and the end of the last one."""
        self._place = {hour: place for place, hour in enumerate(hour_n[start].tolist())}

    @classmethod
    def read(cls, prepared: str | Path) -> TrendTable:
        """The table of a prepared log."""
        return cls(pq.read_table(Path(prepared) / FILE, read_dictionary=["item_id"]))

    def at(self, now_ms: int) -> TrendingAds:
        """What was trending at `now_ms`; nothing where the log is silent about the week before it."""
        place = self.snapshot(now_ms)
        if place is None:
            return NOTHING
        rows = slice(self.start[place], self.start[place + 1])
        return TrendingAds(self.items[self.item_n[rows]], self.share_nW[rows])

    def snapshot(self, now_ms: int) -> int | None:
        """The number of the snapshot of this moment's hour; None where there is none."""
        return self._place.get(now_ms // HOUR_MS)


def count_by_hour(sequences: pa.Table, action: str = "conversion") -> pa.Table:
    """COUNTS_SCHEMA: conversions (or another action) of each ad in each hour, of the users of a sequence table."""
    flat = {name: pc.list_flatten(sequences[name]) for name in ("timestamp", "item_id", "item_kind", "action")}
    kept = pc.and_(pc.equal(flat["action"], ACTIONS.index(action)), pc.equal(flat["item_kind"], AD))
    hours = pc.divide(flat["timestamp"].filter(kept), HOUR_MS)
    counted = pa.table({"hour": hours, "item_id": flat["item_id"].filter(kept)})
    return counted.group_by(["hour", "item_id"]).aggregate([([], "count_all")]).rename_columns(COUNTS_SCHEMA.names)


def write_trending(counts: Iterable[Path], target: Path) -> dict[str, Any]:
    """Write `target` from the shards' counts; a snapshot for every hour up to a week after a conversion."""
    tables = [pq.read_table(path) for path in sorted(counts)]
    whole = pa.concat_tables(tables) if tables else COUNTS_SCHEMA.empty_table()
    with pq.ParquetWriter(target, SCHEMA, compression="zstd") as writer:
        for snapshot in _snapshots(whole):
            writer.write_table(snapshot)
    return {"conversions": int(pc.sum(whole["count"]).as_py() or 0)}


def _snapshots(counts: pa.Table) -> Iterable[pa.Table]:
    """Sliding sums over the hours: each hour's counts enter every window once and leave it once."""
    if not counts.num_rows:
        return
    items = counts["item_id"].combine_chunks().dictionary_encode()
    hour_n, item_n, count_n = counts["hour"].to_numpy(), items.indices.to_numpy(), counts["count"].to_numpy()
    order = np.argsort(hour_n, kind="stable")
    hour_n, item_n, count_n = hour_n[order], item_n[order], count_n[order]
    names = items.dictionary.to_numpy(zero_copy_only=False)
    by_name = np.argsort(names, kind="stable")  # ties go to the smaller item id
    rank = np.empty_like(by_name)
    rank[by_name] = np.arange(len(names))
    item_n, names = rank[item_n], names[by_name]
    window_NW = np.zeros((len(names), len(WINDOWS_HOURS)), dtype=np.int64)
    held: list[tuple[int, np.ndarray, np.ndarray]] = []
    for hour in range(int(hour_n[0]) + 1, int(hour_n[-1]) + WINDOWS_HOURS[-1] + 1):
        for column, hours in enumerate(WINDOWS_HOURS):
            _move(window_NW[:, column], hour_n, item_n, count_n, entering=hour - 1, leaving=hour - 1 - hours)
        place, share_NW = _most_trending(window_NW, LISTED)
        held.append((hour, names[place], share_NW))
        if len(held) == 1024:
            yield _table(held)
            held = []
    yield _table(held)


def _move(
    total_N: np.ndarray, hour_n: np.ndarray, item_n: np.ndarray, count_n: np.ndarray, entering: int, leaving: int
) -> None:
    for hour, sign in ((entering, 1), (leaving, -1)):
        rows = slice(*np.searchsorted(hour_n, [hour, hour + 1]))
        np.add.at(total_N, item_n[rows], sign * count_n[rows])


def _most_trending(count_NW: np.ndarray, listed: int) -> tuple[np.ndarray, np.ndarray]:
    """(places of the ads with the highest sum of daily rates, their shares float32 [n, W])."""
    present = np.flatnonzero(count_NW[:, -1])
    count_nW = count_NW[present]
    daily_n = (count_nW * (24.0 / np.array(WINDOWS_HOURS))).sum(axis=1)
    best = np.argsort(-daily_n, kind="stable")[:listed]
    total_W = np.maximum(count_nW.sum(axis=0), 1)
    return present[best], (count_nW[best] / total_W).astype(np.float32)


def _table(held: list[tuple[int, np.ndarray, np.ndarray]]) -> pa.Table:
    if not held:
        return SCHEMA.empty_table()
    hours = np.repeat([hour for hour, _, _ in held], [len(items) for _, items, _ in held])
    share_nW = np.concatenate([share_NW for _, _, share_NW in held])
    columns = [pa.array(hours), pa.array(np.concatenate([items for _, items, _ in held]), pa.string())]
    columns += [pa.array(share_nW[:, column]) for column in range(len(WINDOWS_HOURS))]
    return pa.table(columns, schema=SCHEMA)
