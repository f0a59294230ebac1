"""Directed neighbours as a Ray Data job: each actor holds the events once and sums one range of items at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from adbeam.ray_data.pools import actor_pool, in_order
from adbeam.tokens.cooccurrence.directed import NeighbourRows


class NeighbourRanges:
    """First items of ranges -> the neighbours of each range, as bytes of the arrays of a CSR matrix."""

    def __init__(self, source: Any, items: int, items_per_range: int) -> None:
        import ray

        self.source: NeighbourRows = ray.get(source)
        self.items, self.items_per_range = items, items_per_range

    def __call__(self, ranges: pa.Table) -> pa.Table:
        """One batch."""
        parts = []
        for first in ranges["first"].to_pylist():
            rows_RN = self.source.rows(first, min(first + self.items_per_range, self.items))
            parts.append(
                {
                    "edges": rows_RN.indptr.astype(np.int64).tobytes(),
                    "items": rows_RN.indices.astype(np.int32).tobytes(),
                    "scores": rows_RN.data.tobytes(),
                }
            )
        return pa.Table.from_pylist(parts)


def neighbour_table(source: NeighbourRows, items_per_range: int, workers: int = 0) -> sparse.csr_matrix:
    """float32 [N, N]: the strongest neighbours of every item; `workers` = 0 sums here, else that many Ray actors do."""
    items = len(source.counts.events_N)
    firsts = range(0, items, items_per_range)
    if workers == 0:
        parts = [source.rows(first, min(first + items_per_range, items)) for first in firsts]
        return sparse.csr_matrix(sparse.vstack(parts))
    import ray

    with in_order(workers) as data:
        asked = data.from_items([{"first": first} for first in firsts], override_num_blocks=len(firsts))
    arguments = (ray.put(source), items, items_per_range)
    dataset = asked.map_batches(NeighbourRanges, **actor_pool(workers, arguments, batch_rows=1))
    rows = [
        _matrix(row, items)
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow")
        for row in batch.to_pylist()
    ]
    return sparse.csr_matrix(sparse.vstack(rows))


def _matrix(row: dict[str, bytes], items: int) -> sparse.csr_matrix:
    edges = np.frombuffer(row["edges"], np.int64)
    item, score = np.frombuffer(row["items"], np.int32), np.frombuffer(row["scores"], np.float32)
    return sparse.csr_matrix((score, item, edges), shape=(len(edges) - 1, items))
