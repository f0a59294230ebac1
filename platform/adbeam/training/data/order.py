"""The data order, which rows make up which step: for a seed the same on any number of workers, from any step on.

The rows form a ring cut into `lanes` equal parts; every global batch takes the same number of rows from each lane, and
a worker reads whole lanes only, so nothing is read twice. An epoch turns the ring by a random amount, visits the
windows of each lane in random order and shuffles inside them (rows were already shuffled when they were written).

With buckets, rows of like size share a step: inside a window each lane sorts its rows by size and cuts them into the
window's steps, and all lanes take these steps in one random order. So little of a batch is padding, on any worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.errors import UserError


@dataclass(frozen=True)
class Window:
    """The steps [first, end) of an epoch, which are read and shuffled together."""

    epoch: int
    index: int
    first: int
    end: int


@dataclass(frozen=True)
class RequestOrder:
    """The order of `rows` rows in batches of `batch` for a seed."""

    rows: int
    batch: int
    lanes: int
    window_steps: int
    seed: int

    def __post_init__(self) -> None:
        if self.steps_per_epoch < 1:
            raise UserError(
                f"{self.rows} requests to learn from are fewer than one batch",
                field="training.batch_requests",
                value=self.batch,
                remedy="make the batch smaller or the log longer",
            )

    @property
    def rows_per_lane(self) -> int:
        """Rows that one lane gives to one step."""
        return self.batch // self.lanes

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass; up to a batch of rows, other ones each epoch, is left out."""
        return self.rows // self.lanes // self.rows_per_lane

    def lanes_of(self, rank: int, world: int) -> list[int]:
        """The lanes that worker `rank` of `world` reads."""
        return [lane for lane in range(self.lanes) if lane * world // self.lanes == rank]

    @property
    def windows_per_epoch(self) -> int:
        """Windows of one epoch; the last may be short."""
        return -(-self.steps_per_epoch // self.window_steps)

    def window_of(self, step: int) -> int:
        """Number of the window that holds step `step` of the run."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return epoch * self.windows_per_epoch + place // self.window_steps

    def window(self, number: int) -> Window:
        """Window `number` of the run."""
        epoch, index = divmod(number, self.windows_per_epoch)
        first = index * self.window_steps
        return Window(epoch, index, first, min(first + self.window_steps, self.steps_per_epoch))

    def lane_rows(self, window: Window, lane: int) -> np.ndarray:
        """Row numbers [steps, rows_per_lane] of one lane in one window, in reading order."""
        length = self.rows // self.lanes
        turn = int(np.random.default_rng((self.seed, window.epoch, 0)).integers(self.rows))
        start = turn + lane * length + self._chunk(window, lane) * self.window_steps * self.rows_per_lane
        count = (window.end - window.first) * self.rows_per_lane
        shuffled = np.random.default_rng((self.seed, window.epoch, 2, lane, window.index)).permutation(count)
        return ((start + shuffled) % self.rows).reshape(-1, self.rows_per_lane)

    def rank_rows(self, window: Window, rank: int, world: int) -> np.ndarray:
        """Row numbers [steps * rows of this worker a step] in the order of the steps."""
        lanes = [self.lane_rows(window, lane) for lane in self.lanes_of(rank, world)]
        return np.concatenate(lanes, axis=1).reshape(-1)

    def bucketed(self, window: Window, size_N2: np.ndarray) -> np.ndarray:
        """Where the rows of `rank_rows` go so that those of like size share a step: row numbers in reading order.

        `size_N2` are the rows' numbers of context tokens and of targets. Context lengths are cut into groups, more of
        them than each then has steps, and inside a group rows are sorted by their targets.
        """
        steps, part = window.end - window.first, self.rows_per_lane
        lanes = len(size_N2) // (steps * part)
        place = np.arange(len(size_N2)).reshape(steps, lanes, part).transpose(1, 0, 2).reshape(lanes, -1)
        turn = np.random.default_rng((self.seed, window.epoch, 3, window.index)).permutation(steps)
        sorted_lanes = [place_n[_by_size(size_N2[place_n], steps)].reshape(steps, part)[turn] for place_n in place]
        return np.stack(sorted_lanes, axis=1).reshape(-1)

    def _chunk(self, window: Window, lane: int) -> int:
        """Which chunk of the lane this window reads; the short one stays last."""
        whole = self.steps_per_epoch // self.window_steps
        if window.index >= whole:
            return whole
        return int(np.random.default_rng((self.seed, window.epoch, 1, lane)).permutation(whole)[window.index])


def _by_size(size_n2: np.ndarray, steps: int) -> np.ndarray:
    """The order of rows: groups of whole steps of like context length, inside a group by targets."""
    by_context = np.argsort(size_n2[:, 0], kind="stable")
    groups, part = max(1, round(steps**0.6)), len(size_n2) // steps
    edges = np.linspace(0, steps, groups + 1).round().astype(int) * part
    pieces = [by_context[start:end] for start, end in pairwise(edges)]
    return np.concatenate([piece[np.argsort(size_n2[piece, 1], kind="stable")] for piece in pieces])


@dataclass(frozen=True)
class RowFiles:
    """The Parquet shards that hold the rows, as one numbered list."""

    folder: Path
    names: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return sum(self.counts)

    def take(self, row_N: np.ndarray) -> pa.Table:
        """These rows in this order. Reads the row groups they lie in, each once."""
        sorted_N = np.sort(row_N)
        pieces, places, first = [], [], 0
        for name, count in zip(self.names, self.counts, strict=True):
            wanted = sorted_N[np.searchsorted(sorted_N, first) : np.searchsorted(sorted_N, first + count)] - first
            if len(wanted):
                table, numbers = _read_groups(self.folder / name, wanted)
                pieces.append(table)
                places.append(numbers + first)
            first += count
        table, place_N = pa.concat_tables(pieces).combine_chunks(), np.concatenate(places)
        return table.take(pa.array(np.searchsorted(place_N, row_N)))


def _read_groups(path: Path, wanted: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """The row groups of `path` that hold the sorted row numbers `wanted`, and the number of each row read."""
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        groups = np.unique(np.searchsorted(starts, wanted, side="right") - 1)
        table = file.read_row_groups(groups.tolist(), use_threads=False)
    return table, np.concatenate([np.arange(starts[group], starts[group + 1]) for group in groups])
