"""A shard in pieces of whole users, so that a log of any size is ordered in the same memory.

A piece is a range of user ids, and ranges come in rising order: one behind the other they are the shard in the order of
its users, and what is written of them is the same file as of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PIECE_ROWS = 2_000_000
"""About 1 GiB while they are ordered. A single user's rows are never parted."""
_SAMPLED = 64
"""One row in so many tells where users lie."""


def pieces_of(parts: Sequence[Path], most_rows: int = PIECE_ROWS) -> Iterator[pa.Table]:
    """The rows of Arrow stream files, about `most_rows` at a time, each with all rows of its users."""
    rows = sum(_read(part).num_rows for part in parts)
    bounds = _bounds(parts, -(-rows // most_rows)) if rows > most_rows else []
    if not bounds:
        yield pa.concat_tables([_read(part) for part in parts])
        return
    for low, high in pairwise([None, *bounds, None]):
        piece = pa.concat_tables([_between(_read(part), low, high) for part in parts])
        if piece.num_rows:
            yield piece


def _bounds(parts: Sequence[Path], pieces: int) -> list[str]:
    """Users where a new piece begins, rising."""
    sampled = [_read(part)["user_id"] for part in parts]
    names = pa.chunked_array(
        [names.take(pa.array(range(0, len(names), _SAMPLED))).combine_chunks() for names in sampled]
    )
    rising = names.take(pc.sort_indices(names))
    return sorted({rising[len(rising) * place // pieces].as_py() for place in range(1, pieces)})


def _between(events: pa.Table, low: str | None, high: str | None) -> pa.Table:
    """Rows of the users from `low` to before `high`."""
    users = events["user_id"]
    from_low = None if low is None else pc.greater_equal(users, low)
    below_high = None if high is None else pc.less(users, high)
    if from_low is None or below_high is None:
        return events.filter(below_high if from_low is None else from_low)
    return events.filter(pc.and_(from_low, below_high))


def _read(part: Path) -> pa.Table:
    with pa.memory_map(str(part)) as source:
        return pa.ipc.open_stream(source).read_all()


class RowGroupWriter:
    """A Parquet file written in pieces whose row groups are those of the whole; a file once it is left."""

    def __init__(self, path: Path, rows: int) -> None:
        self._path, self._rows = path, rows
        self._writer: pq.ParquetWriter | None = None
        self._left: pa.Table | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._left is not None and self._left.num_rows and kind is None:
            self._write(self._left)
        if self._writer is not None:
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Write full row groups and keep what is left for the next piece."""
        table = table if self._left is None else pa.concat_tables([self._left, table])
        full = table.num_rows // self._rows * self._rows
        for start in range(0, full, self._rows):
            self._write(table.slice(start, self._rows))
        self._left = table.slice(full)

    def _write(self, group: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, group.schema, compression="zstd")
        self._writer.write_table(group.combine_chunks(), row_group_size=self._rows)
