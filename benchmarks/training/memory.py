"""What a worker of each ZeRO stage holds: real DeepSpeed processes, two optimiser steps, peak resident memory.

python -m benchmarks.training_memory SIZE STAGE RANK WORLD STORE    (one process of a group; prints JSON)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GIB = 2**30
REQUESTS = {"tiny": 8, "small": 8, "base": 4, "paper": 1}
"""Requests of a worker in one step: few, so that activations stay small beside weights."""
STEPS = {"paper": 1}
RETURN_FREED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
"""glibc keeps freed memory otherwise, and what a process holds could not be told from what it once held."""


def measure(size: str, stage: int, world: int) -> dict[str, Any]:
    """Peak GiB of each worker above what it held before the model was built, and the formula beside it."""
    with tempfile.TemporaryDirectory(prefix="adbeam-memory-") as folder:
        command = [sys.executable, "-m", "benchmarks.training_memory", size, str(stage)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", **RETURN_FREED}
        workers = [
            subprocess.Popen(
                [*command, str(rank), str(world), f"{folder}/store"],
                stdout=subprocess.PIPE,
                text=True,
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)},
            )
            for rank in range(world)
        ]
        answers = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError(f"a worker of stage {stage} failed")
    found = [json.loads(answer.splitlines()[-1]) for answer in answers]
    parameters = found[0]["parameters"]
    return {
        "size": size,
        "stage": stage,
        "workers": world,
        "parameters": parameters,
        "peak_gib": sum(one["peak_gib"] for one in found) / world,
        "held_gib": sum(one["held_gib"] for one in found) / world,
        "total_gib": sum(one["resident_gib"] for one in found),
        "formula_gib": formula_bytes(parameters, stage, world) / GIB,
        "step_seconds": max(one["step_seconds"] for one in found),
        "loss": found[0]["loss"],
    }


def formula_bytes(parameters: int, stage: int, world: int) -> float:
    """Weights, gradients and two Adam moments in fp32, 16 bytes a parameter (ZeRO, Rajbhandari et al. 2020, figure 1).

    Stage 1 shares the moments, 2 the gradients too, 3 the weights too. DeepSpeed keeps 4 bytes more of what a worker
    owns, the copy that the optimiser moves.
    """
    own = {0: (16, 0), 1: (8, 8), 2: (4, 12), 3: (0, 16)}[stage]
    return parameters * (own[0] + own[1] / world)


def main() -> None:
    """One worker of the group."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("size", choices=REQUESTS)
    for name in ("stage", "rank", "world"):
        parser.add_argument(name, type=int)
    parser.add_argument("store")
    given = parser.parse_args()
    size, stage, rank, world, store = given.size, given.stage, given.rank, given.world, given.store
    import psutil
    import torch
    import torch.distributed as dist

    from adbeam.model.lazyar import LazyAR, parameter_count
    from adbeam.training.loop import vsl_of
    from adbeam.training.state.deepspeed_engine import build_engine, import_deepspeed
    from benchmarks.training.setup import config_of, random_rows

    torch.set_num_threads(1)
    import_deepspeed()
    files = dist.FileStore(store, world)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=files, rank=rank, world_size=world)
    config = config_of(size, Path("."), zero_stage=stage, workers=world)
    from adbeam.objectives.ecpm import EcpmBuckets
    from adbeam.training.data.batches import BatchMaker
    from adbeam.training.data.rows import RowFormat

    row_format = RowFormat.of(config.model, config.training.targets_per_request)
    import numpy as np

    maker = BatchMaker(row_format, EcpmBuckets.fit(np.ones(9), config.model.ecpm_buckets), np.zeros(0))
    table = row_format.to_table(random_rows(config, row_format, REQUESTS[size], seed=rank))
    batch = maker.batch(table)
    process = psutil.Process()
    before = process.memory_info().rss
    torch.manual_seed(0)
    model = LazyAR(config.model)
    model.train()
    parameters = parameter_count(model)
    engine = build_engine(model, config.training, world)
    began = time.perf_counter()
    for _ in range(STEPS.get(size, 2)):
        began = time.perf_counter()
        loss, _ = vsl_of(engine, batch, config.objectives)
        engine.backward(loss)
        engine.step()
    step_seconds = time.perf_counter() - began
    dist.barrier()
    answer = {
        "parameters": parameters,
        "peak_gib": (_peak_bytes() - before) / GIB,
        "held_gib": (process.memory_info().rss - before) / GIB,
        "resident_gib": _peak_bytes() / GIB,
        "step_seconds": step_seconds,
        "loss": float(loss.detach()),
    }
    print(json.dumps(answer), flush=True)


def _peak_bytes() -> int:
    """The most that this process was resident with (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
