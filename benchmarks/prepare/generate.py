"""A log of any size with few heavy users and many light ones, bad rows and repeated ones, and its catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.records import DAY_MS

START_MS = 1_767_225_600_000
"""2026-01-01, UTC."""
DAYS = 60
VALIDATION_FROM, TEST_FROM = "2026-02-20", "2026-02-25"
PART_EVENTS = 1_000_000
BAD_SHARE = 0.002
REPEATED_SHARE = 0.01
SKEW = 4.0
"""Of users and ads: the number of one is a uniform draw to this power."""


@dataclass(frozen=True)
class LogSize:
    """How much is generated; the same sizes give the same files."""

    events: int
    users: int
    ads: int

    @property
    def name(self) -> str:
        """Of the folder."""
        return f"log-{self.events}-{self.users}-{self.ads}"


def write_log(size: LogSize, folder: Path) -> Path:
    """Write `parts/` and `catalogue/` below a folder of the size's own and return it; kept from run to run."""
    target = folder / size.name
    if (target / "complete").is_file():
        return target
    for name in ("parts", "catalogue"):
        (target / name).mkdir(parents=True, exist_ok=True)
    pq.write_table(_catalogue(size), target / "catalogue" / "ads.parquet")
    for number, part in enumerate(_events(size)):
        pq.write_table(part, target / "parts" / f"part-{number:05d}.parquet")
    (target / "complete").touch()
    return target


def _catalogue(size: LogSize) -> pa.Table:
    rng = np.random.default_rng(1)
    category = rng.integers(0, 300, size.ads)
    title = pc.binary_join_element_wise(_ids("brand ", rng.integers(0, 5000, size.ads)), _ids("kind ", category), ", ")
    return pa.table(
        {
            "item_id": _ids("ad", np.arange(size.ads)),
            "title": title,
            "category": _ids("c", category),
            "price": np.round(rng.gamma(2.0, 9.0, size.ads), 2),
        }
    )


def _events(size: LogSize) -> Iterator[pa.Table]:
    """Parts by time, each with some of its own rows twice."""
    for number, start in enumerate(range(0, size.events, PART_EVENTS)):
        rng = np.random.default_rng((2, number))
        count = min(PART_EVENTS, size.events - start)
        repeated = int(count * REPEATED_SHARE)
        part = _part(size, start, count - repeated, rng)
        yield pa.concat_tables([part, part.slice(0, repeated)])


def _part(size: LogSize, start: int, count: int, rng: np.random.Generator) -> pa.Table:
    share = (start + np.sort(rng.random(count)) * count) / size.events
    action = rng.choice(4, count, p=[0.8 - BAD_SHARE, 0.15, 0.05, BAD_SHARE])
    price = np.where(action == 2, np.round(rng.gamma(2.0, 9.0, count), 2), np.nan)
    words = pa.array(["impression", "click", "conversion", "unknown word"])
    return pa.table(
        {
            "user_id": _ids("u", (size.users * rng.random(count) ** SKEW).astype(np.int64)),
            "timestamp": START_MS + (share * DAYS * DAY_MS).astype(np.int64),
            "item_id": _ids("ad", (size.ads * rng.random(count) ** SKEW).astype(np.int64)),
            "action": words.take(pa.array(action)),
            "price": pa.array(price, from_pandas=True),
            "request_id": _ids("r", start + np.arange(count)),
            "scene": pa.array(["feed", "search", "story"]).take(pa.array(rng.integers(0, 3, count))),
        }
    )


def _ids(letter: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(letter, pa.array(numbers).cast(pa.string()), "")
