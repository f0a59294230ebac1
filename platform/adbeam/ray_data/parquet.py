"""Parquet as a Ray dataset, without the processes that Ray Data would start to look at it first.

Ray Data reads the footers of the files by up to 32 actors, processes of 100 MiB each, and then 128 MiB at a time, which
takes a reader of 600 MiB. It knows only environment variables for both, and asks them when a dataset is made.
"""

from __future__ import annotations

import os
from typing import Any


def read_parquet(paths: str | list[str], *, piece_bytes: int | None = None, **reading: Any) -> Any:
    """`ray.data.read_parquet` with one actor for footers; `piece_bytes` is what a task reads at a time.

    Variables that the user has set are in force instead.
    """
    import ray.data

    wanted = {"RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1"}
    if piece_bytes is not None:
        wanted["RAY_DATA_PARQUET_BIN_PACKING_BYTES"] = str(piece_bytes)
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        return ray.data.read_parquet(paths, **reading)
    finally:
        for name in added:
            del os.environ[name]
