"""How fast vectors become SIDs: the kernel against faiss's ResidualQuantizer, and end to end through Ray Data."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.tokens.config import QuantizerConfig
from adbeam.tokens.quantizers.balanced import Codebook
from adbeam.tokens.quantizers.rq_kmeans import RQKMeans
from adbeam.tokens.streaming import assign_vectors
from benchmarks.rig.memory import PeakMemory

FEATURES = 256
CODEBOOKS = (4096, 1024, 1024)
ROWS_PER_FILE = 62_500
FREES = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
}
"""Environment in which workers give memory back at once (docs/laboratory.md)."""


def quantizer() -> RQKMeans:
    """Codebooks (4096, 1024, hash) on vectors of 256; random ones: what is measured does not depend on them."""
    random = np.random.default_rng(0)
    result = RQKMeans(CODEBOOKS, QuantizerConfig(batch_vectors=16_384), seed=0)
    result.levels = [
        Codebook((scale * random.normal(size=(size, FEATURES))).astype(np.float32), np.zeros(size, np.float32))
        for size, scale in zip(CODEBOOKS[:2], (1.0, 0.7), strict=True)
    ]
    return result


def vectors(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [rows, 256], uint64 hashes [rows])."""
    random = np.random.default_rng(seed)
    return random.standard_normal((rows, FEATURES), np.float32), random.integers(0, 2**63, rows, np.uint64)


def kernel_rates(rows: int, threads: int, blocks: int = 5) -> tuple[float, float]:
    """(ours, faiss) in vectors per second with the same codebooks and threads: `rows` vectors in blocks by turns."""
    from threadpoolctl import threadpool_limits

    ours, theirs = quantizer(), _faiss_quantizer(quantizer())
    rates: dict[str, list[float]] = {"ours": [], "faiss": []}
    with threadpool_limits(threads):
        faiss.omp_set_num_threads(threads)
        for block in range(blocks):
            x_NE, hash_N = vectors(rows // blocks, block)
            rates["ours"].append(len(x_NE) / _seconds(partial(ours.encode, x_NE, hash_N)))
            rates["faiss"].append(len(x_NE) / _seconds(partial(theirs.compute_codes, x_NE)))
            print(f"block {block}: ours {rates['ours'][-1]:.0f}, faiss {rates['faiss'][-1]:.0f} vectors/s", flush=True)
    return float(np.median(rates["ours"])), float(np.median(rates["faiss"]))


def end_to_end(rows: int, workers: int) -> tuple[float, float]:
    """(vectors per second, peak GiB) of Parquet -> Ray Data -> Parquet, measured in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="adbeam-assign-"))
    try:
        print(f"writing {rows} vectors", flush=True)
        _write_vectors(rows, folder / "vectors")
        print(f"assigning {rows} vectors with {workers} actors", flush=True)
        command = [sys.executable, "-m", "benchmarks.tokens_speed", str(folder), str(workers)]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result = json.loads(answer.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{rows} vectors in {result['seconds']:.1f} s, peak {result['peak_gib']:.2f} GiB", flush=True)
    return rows / result["seconds"], result["peak_gib"]


def _faiss_quantizer(ours: RQKMeans) -> faiss.ResidualQuantizer:
    bits = faiss.UInt64Vector()
    for level in ours.levels:
        bits.push_back(len(level.centroid_VE).bit_length() - 1)
    theirs = faiss.ResidualQuantizer(FEATURES, bits)  # type: ignore[call-overload]  # takes no list, as its stub says
    theirs.is_trained, theirs.max_beam_size = True, 1
    flat = np.concatenate([level.centroid_VE for level in ours.levels]).ravel()
    faiss.copy_array_to_vector(flat, theirs.codebooks)
    theirs.compute_codebook_tables()
    return theirs


def _seconds(action: object) -> float:
    started = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - started


def _write_vectors(rows: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        x_NE, hash_N = vectors(min(ROWS_PER_FILE, rows - start), number)
        vector = pa.FixedSizeListArray.from_arrays(pa.array(x_NE.ravel()), FEATURES)
        item_id = pa.array([f"ad{row}" for row in range(start, start + len(x_NE))])
        table = pa.table({"item_id": item_id, "vector": vector, "hash": pa.array(hash_N)})
        pq.write_table(table, folder / f"{number:04}.parquet", compression="none", row_group_size=16_384)


def main() -> None:
    """Child process: assign FOLDER/vectors with WORKERS actors; print seconds and peak memory as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("workers", type=int)
    given = parser.parse_args()
    folder, workers = given.folder, given.workers
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # a busy machine is slow, not broken
    os.environ.setdefault("RAY_worker_niceness", "0")  # faiss is timed at the niceness of this process too
    import ray

    ray.init(
        num_cpus=workers + 1, object_store_memory=768 << 20, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **FREES}},
    )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    with PeakMemory(0.5) as memory:
        seconds = _seconds(lambda: assign_vectors(folder / "vectors", folder / "sids", quantizer(), workers=workers))
    rows = sum(pq.ParquetFile(path).metadata.num_rows for path in (folder / "sids").glob("*.parquet"))
    ray.shutdown()
    print(json.dumps({"seconds": seconds, "peak_gib": memory.peak_bytes / 2**30, "rows": rows}))
