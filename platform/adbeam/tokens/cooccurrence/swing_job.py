"""Swing as a Ray Data job: each actor holds the user-item matrix once and sums one range of items at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from adbeam.ray_data.pools import actor_pool, in_order
from adbeam.tokens.cooccurrence.swing import Neighbours, swing, swing_range


class SwingRanges:
    """First items of ranges -> the strongest Swing neighbours of each range, as bytes of its arrays."""

    def __init__(self, chosen: Any, alpha: float, neighbours: int, items_per_range: int) -> None:
        import ray

        self.chosen_UN: sparse.csr_matrix = ray.get(chosen)
        self.alpha, self.neighbours, self.items_per_range = alpha, neighbours, items_per_range

    def __call__(self, ranges: pa.Table) -> pa.Table:
        """One batch."""
        parts = [self._range(first) for first in ranges["first"].to_pylist()]
        return pa.table(
            {
                "first": [part.first for part in parts],
                "items": [part.item_RK.astype(np.int64).tobytes() for part in parts],
                "scores": [part.score_RK.astype(np.float32).tobytes() for part in parts],
            }
        )

    def _range(self, first: int) -> Neighbours:
        last = min(first + self.items_per_range, self.chosen_UN.shape[1])
        return swing_range(self.chosen_UN, first, last, alpha=self.alpha, neighbours=self.neighbours)


def swing_ranges(
    chosen_UN: sparse.csr_matrix, *, alpha: float, neighbours: int, items_per_range: int, workers: int
) -> Iterator[Neighbours]:
    """As `swing`, in order; `workers` = 0 sums here, else that many Ray actors do, a range of items each at a time."""
    if workers == 0:
        yield from swing(chosen_UN, alpha=alpha, neighbours=neighbours, items_per_range=items_per_range)
        return
    import ray

    ranges = [{"first": first} for first in range(0, chosen_UN.shape[1], items_per_range)]
    with in_order(workers) as data:
        asked = data.from_items(ranges, override_num_blocks=len(ranges))
    arguments = (ray.put(chosen_UN), alpha, neighbours, items_per_range)
    dataset = asked.map_batches(SwingRanges, **actor_pool(workers, arguments, batch_rows=1))
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        for part in batch.to_pylist():
            shape = (-1, neighbours)
            item_RK = np.frombuffer(part["items"], np.int64).reshape(shape)
            yield Neighbours(part["first"], item_RK, np.frombuffer(part["scores"], np.float32).reshape(shape))
