"""What each request of a prepared shard told: of every feature the first value that a row of it brings.

Rows of a request say where it was made, the impression before the click; one that leaves a column empty takes the
value of the others.

Shapes: E events of a shard, K requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.records import SPLITS
from adbeam.workdir import EVENTS, SEQUENCES


@dataclass(frozen=True)
class ShardRequests:
    """The requests of one shard's events, in the order in which they begin."""

    request_E: np.ndarray
    """Which request each event is of."""
    first_K: np.ndarray
    """The first event of each."""
    in_training_K: np.ndarray
    """Whether any event of it is of the training split."""
    user_K: pa.Array
    now_ms_K: np.ndarray
    columns: dict[str, pa.Array]
    """{column: value of each request}, null where no row of it has one."""

    @classmethod
    def read(cls, staging: Path, name: str, columns: Sequence[str]) -> Self:
        """Of the shard of that file name."""
        keys = ("user_id", "request_id", "timestamp")
        events = pq.read_table(staging / EVENTS / name, columns=[*keys, *columns]).combine_chunks()
        split = pc.list_flatten(pq.read_table(staging / SEQUENCES / name, columns=["split"])["split"]).to_numpy()
        user_E, request_E = (_numbered(events[key].combine_chunks()) for key in keys[:2])
        request_E = pd.factorize(user_E * (int(request_E.max(initial=0)) + 1) + request_E)[0]
        count = int(request_E.max(initial=-1)) + 1
        first_K = _first(request_E, np.arange(len(request_E)), count)
        trained_K = np.zeros(count, dtype=bool)
        trained_K[request_E[split == SPLITS.index("train")]] = True
        return cls(
            request_E,
            first_K,
            trained_K,
            events["user_id"].combine_chunks().take(pa.array(first_K)),
            events["timestamp"].to_numpy()[first_K],
            {column: _of_requests(events[column].combine_chunks(), request_E, count) for column in columns},
        )


def _of_requests(values: pa.Array, request_E: np.ndarray, count: int) -> pa.Array:
    """The first value of each request that is not null."""
    place_n = values.is_valid().to_numpy(zero_copy_only=False).nonzero()[0]
    first_K = _first(request_E[place_n], place_n, count)
    return values.take(pa.array(first_K, mask=first_K < 0))


def _first(request_n: np.ndarray, place_n: np.ndarray, count: int) -> np.ndarray:
    """The first of the places of each request; -1 where it has none."""
    first_K = np.full(count, -1, dtype=np.int64)
    first_K[request_n[::-1]] = place_n[::-1]  # of several values for one place the last one stays
    return first_K


def _numbered(values: pa.Array) -> np.ndarray:
    number_E: np.ndarray = values.dictionary_encode().indices.to_numpy().astype(np.int64)
    return number_E
