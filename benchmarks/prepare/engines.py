"""What is measured, one in a process of its own: `python -m benchmarks.prepare.engines NAME LOG OUT`.

adbeam's `prepare`, and its core as one query of DuckDB and of Polars: drop bad rows and repeated ones, keep what the
catalogue knows, order and group by user, write. Prints {"seconds": ...} as its last line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.prepare.generate import TEST_FROM, VALIDATION_FROM

ACTIONS = ("impression", "click", "conversion")
DUCKDB_MEMORY = "8GB"


def adbeam(log: Path, out: Path) -> float:
    """Seconds of `prepare` on a Ray of as many cores as this process may use; Ray itself has started before."""
    import ray

    from adbeam.config import Config
    from adbeam.logs import prepare

    tables = {"events": {"path": str(log / "parts")}, "catalogue": {"path": str(log / "catalogue")}}
    split = {"by": "time", "validation_from": VALIDATION_FROM, "test_from": TEST_FROM}
    logs = {"source": "files", "files": tables, "split": split}
    config = Config.parse({"size": "tiny", "work_dir": str(out), "logs": logs})
    cores = len(os.sched_getaffinity(0))
    ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
    try:
        return seconds_of(lambda: prepare(config))
    finally:
        ray.shutdown()


def duckdb(log: Path, out: Path) -> float:
    """Seconds of one thread."""
    import duckdb as engine

    database = engine.connect()
    for setting in ("threads = 1", f"memory_limit = '{DUCKDB_MEMORY}'", f"temp_directory = '{out / 'spill'}'"):
        database.execute(f"set {setting}")
    columns = ("timestamp", "item_id", "action", "price", "scene", "request_id")
    lists = ", ".join(f"list({name} order by timestamp) as {name}" for name in columns)
    query = f"""
        with known as (select item_id from read_parquet('{log}/catalogue/*.parquet')),
        kept as (
            select distinct * from read_parquet('{log}/parts/*.parquet')
            where action in {ACTIONS} and timestamp >= 0 and coalesce(price, 0) >= 0
                and item_id in (select item_id from known)
        )
        select hash(user_id) % 8 as shard, user_id, {lists} from kept group by user_id
    """
    return seconds_of(
        lambda: database.execute(f"copy ({query}) to '{out}/users' (format parquet, partition_by (shard))")
    )


def polars(log: Path, out: Path) -> float:
    """Seconds of one thread (POLARS_MAX_THREADS)."""
    import polars as engine

    column = engine.col
    known = engine.scan_parquet(f"{log}/catalogue/*.parquet").select("item_id")
    good = column("action").is_in(ACTIONS) & (column("timestamp") >= 0) & (column("price").fill_null(0) >= 0)
    kept = engine.scan_parquet(f"{log}/parts/*.parquet").filter(good).join(known, on="item_id", how="semi").unique()
    users = kept.sort("user_id", "timestamp").group_by("user_id", maintain_order=True).agg(engine.all())
    return seconds_of(lambda: users.collect(engine="streaming").write_parquet(out / "users.parquet"))


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


ENGINES: dict[str, Callable[[Path, Path], float]] = {"adbeam": adbeam, "duckdb": duckdb, "polars": polars}

if __name__ == "__main__":
    name, log, out = sys.argv[1:]
    Path(out).mkdir(parents=True)
    print(json.dumps({"seconds": ENGINES[name](Path(log), Path(out))}))
