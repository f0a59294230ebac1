"""What was known of a user when a request was made: the newest row of the table of users from before it.

Shapes: K requests, n rows of the users of a shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

USERS_FILE = "users.parquet"
"""In the prepared log: user_id, valid_from, features; by user and moment."""
ALWAYS = -(1 << 62)
"""valid_from of what holds from the beginning of time."""


def known_at(staging: Path, user_K: pa.Array, now_ms_K: np.ndarray, columns: Sequence[str]) -> dict[str, pa.Array]:
    """{column: value of each request's user at its moment}; null where nothing was known yet."""
    users = pc.unique(user_K)
    rows = _rows_of(staging / USERS_FILE, users, columns)
    row_K = _newest(
        pc.index_in(rows["user_id"], value_set=users).to_numpy().astype(np.int64),
        rows["valid_from"].to_numpy(),
        pc.index_in(user_K, value_set=users).to_numpy(zero_copy_only=False).astype(np.int64),
        now_ms_K,
    )
    place = pa.array(row_K, mask=row_K < 0)
    return {column: rows[column].combine_chunks().take(place) for column in columns}


def _rows_of(path: Path, users: pa.Array, columns: Sequence[str]) -> pa.Table:
    """The rows of these users; others are not held."""
    file = pq.ParquetFile(path)
    names = ["user_id", "valid_from", *columns]
    parts = [pa.Table.from_batches([batch]) for batch in file.iter_batches(columns=names)]
    schema = pa.schema([file.schema_arrow.field(name) for name in names])
    kept = [part.filter(pc.is_in(part["user_id"], value_set=users)).select(names) for part in parts]
    return pa.concat_tables([schema.empty_table(), *kept]).combine_chunks()


def _newest(user_n: np.ndarray, from_n: np.ndarray, user_K: np.ndarray, now_ms_K: np.ndarray) -> np.ndarray:
    """int64 [K]: the row of the same user with the greatest time up to the request's; -1 where there is none."""
    n = len(user_n)
    is_request = np.arange(n + len(user_K)) >= n
    user = np.append(user_n, user_K)
    order = np.lexsort((is_request, np.append(from_n, now_ms_K), user))  # at one moment the row comes first
    last = np.maximum.accumulate(np.where(is_request[order], -1, np.arange(len(order))))
    row = np.where(last >= 0, order[last], -1)
    row[(row >= 0) & (user[row] != user[order])] = -1
    row_K = np.full(len(user_K), -1, dtype=np.int64)
    asked = is_request[order]
    row_K[order[asked] - n] = row[asked]
    return row_K
