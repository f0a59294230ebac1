"""`python -m benchmarks.training`: what Ray Train and DeepSpeed cost, how fast data comes, what ZeRO saves, padding.

speed: the same model, rows and steps in a plain PyTorch loop and in one Ray Train + DeepSpeed worker, reports and
checkpoints included; the plain loop runs before and after, and the worker's loop once in a process without Ray, which
tells DeepSpeed's share of the difference from Ray's. ingest: what Ray Data delivers to one worker that does not
train. memory: peak of each worker by ZeRO stage. paper: one optimiser step of the largest size under ZeRO-3. padding:
share of the places of batches that hold nothing.

What DeepSpeed adds to a step goes with the parameters and not with the batch: a smaller batch than the size's own shows
more of it.

Every part writes what it found into `--keep`; a later run takes it from there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rig.report import commit, report
from benchmarks.training.memory import measure
from benchmarks.training.setup import config_of, job_of, random_store

PARTS = ("speed", "ingest", "padding", "memory", "paper")
WARM_UP = 5
INGEST_STEPS, INGEST_EPOCHS = 128, 8
"""Steps of an epoch, and how often it is read from the start of its pipeline, which reads ahead of what it gives."""
MEASURED = ("benchmarks/training/run.py", "benchmarks/training/setup.py", "benchmarks/training/memory.py",
            "platform/adbeam/training", "platform/adbeam/model", "platform/adbeam/objectives")  # fmt: skip
"""What the figures depend on."""

Part = dict[str, Any]
"""{"figures": {name: number}, ...}."""


def main() -> None:
    """Run the parts that were asked for and write training.json."""
    if len(sys.argv) > 1 and sys.argv[1] in CHILDREN:
        CHILDREN[sys.argv[1]](**json.loads(sys.argv[2]))
        return
    options = _options()
    run: dict[str, Callable[[], Part]] = {
        "speed": lambda: speed(options.size, options.batch, options.steps, options.zero_stage),
        "ingest": lambda: ingest(options.size, options.batch),
        "padding": lambda: padding(options.size, options.batch, options.rows_of),
        "memory": lambda: memory(options.size, options.workers),
        "paper": paper,
    }
    asked = {name: getattr(options, name) for name in ("size", "batch", "steps", "zero_stage", "workers")}
    asked |= {"rows_of": str(options.rows_of)}
    found = {
        name: _once(options.keep / f"{name}.json", name, run[name], asked) for name in PARTS if name in options.parts
    }
    figures = {key: value for part in found.values() for key, value in part.pop("figures").items()}
    if {"ray_requests_per_second", "ingest_requests_per_second"} <= figures.keys():
        figures["ingest_over_train"] = figures["ingest_requests_per_second"] / figures["ray_requests_per_second"]
    extra = {"size": options.size, "batch_requests": options.batch, "left_out": sorted(set(PARTS) - set(found))}
    report("training", figures, {**extra, **found})


def speed(size: str, batch: int, steps: int, zero_stage: int) -> Part:
    """Tokens (context tokens and target codes) per second, plain and on a Ray worker."""
    settings = {"size": size, "batch": batch, "zero_stage": zero_stage}
    half = steps // 2
    plain = [_child("plain", **settings, steps=half)]
    ray = _child("worker", **settings, steps=steps, workers=1)
    without_ray = _child("worker", **settings, steps=half, workers=0)
    plain.append(_child("plain", **settings, steps=half))
    plain_rate = batch * sum(one["steps"] for one in plain) / sum(one["seconds"] for one in plain)
    ray_rate, without_ray_rate = (batch * one["steps"] / one["seconds"] for one in (ray, without_ray))
    figures = {
        "ray_over_plain_tokens": ray_rate / plain_rate,
        "without_ray_over_plain_tokens": without_ray_rate / plain_rate,
        "plain_requests_per_second": plain_rate,
        "ray_requests_per_second": ray_rate,
        "ray_tokens_per_second": ray_rate * ray["tokens_per_request"],
    }
    shares = {f"{what}_share": ray[f"{what}_seconds"] / ray["seconds"] for what in ("data", "checkpoint")}
    runs = {"plain": plain, "without_ray": without_ray, "ray": ray}
    return {"figures": figures, "zero_stage": zero_stage, **runs, "where_the_time_goes": shares}


def ingest(size: str, batch: int) -> Part:
    """Requests per second of a worker's Ray Data pipeline, its start included, batches made as for training."""
    found = _child("ingest", size=size, batch=batch)
    rate = batch * found["steps"] / found["seconds"]
    return {"figures": {"ingest_requests_per_second": rate}, **found}


def padding(size: str, batch: int, rows_of: Path | None) -> Part:
    """Share of places without token or target code, with requests of like size in a step and without."""
    from adbeam.training.data.build_rows import RowStore

    with tempfile.TemporaryDirectory(prefix="adbeam-padding-") as folder:
        config = config_of(size, Path(folder), batch_requests=batch, workers=0)
        store = RowStore.open(rows_of) if rows_of else random_store(Path(folder) / "rows", config, 256 * batch)
        _, stream = job_of(config, store, "padding")
        steps = min(stream.order.steps_per_epoch, 512)
        shares = [_padding(replace(stream, buckets=buckets), store.format, steps) for buckets in (store.format, None)]
    data = str(rows_of) if rows_of else "random rows"
    return {"figures": {"padding_share": shares[0], "padding_share_unsorted": shares[1]}, "rows": data, "steps": steps}


def memory(size: str, workers: int) -> Part:
    """Each ZeRO stage, one after the other."""
    table = [measure(size, stage, workers) for stage in range(4)]
    return {"figures": {f"zero{row['stage']}_gib_per_worker": row["peak_gib"] for row in table}, "table": table}


def paper() -> Part:
    """One optimiser step of the size `paper` under ZeRO-3 with two workers."""
    found = measure("paper", stage=3, world=2)
    figures = {"paper_zero3_gib": found["total_gib"], "paper_zero3_step_seconds": found["step_seconds"]}
    return {"figures": figures, "found": found}


def train_plain_child(size: str, batch: int, steps: int, zero_stage: int) -> None:
    """Child process: the plain loop."""
    import torch

    from adbeam.training.reference_loop import train_plain

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="adbeam-plain-") as folder:
        config = config_of(size, Path(folder), batch_requests=batch, workers=0, max_steps=steps + WARM_UP, epochs=99)
        store = random_store(Path(folder) / "rows", config, 64 * batch)
        _, history = train_plain(*job_of(config, store, "plain"))
    seconds = history[-1]["seconds"] - history[WARM_UP - 1]["seconds"]
    print(json.dumps({"steps": steps, "seconds": seconds, "loss": history[-1]["loss"]}))


def train_worker_child(size: str, batch: int, steps: int, zero_stage: int, workers: int) -> None:
    """Child process: one Ray Train worker with DeepSpeed, or (0) its loop in this process, as `adbeam train` runs it.

    A report every tenth and a checkpoint every half of the steps.
    """
    from adbeam.training.launch import fit, ray_for
    from adbeam.training.trainer import open_record

    os.environ.setdefault("RAY_worker_niceness", "0")  # the plain loop runs at this process's niceness too
    every = max(1, steps // 10)
    with tempfile.TemporaryDirectory(prefix="adbeam-ray-") as folder:
        config = config_of(
            size, Path(folder), batch_requests=batch, workers=workers, zero_stage=zero_stage, epochs=99,
            max_steps=steps + every, report_interval_steps=every, checkpoint_interval_steps=max(1, steps // 2),
        )  # fmt: skip
        store = random_store(Path(folder) / "rows", config, 64 * batch)
        job, stream = job_of(config, store, "ray")
        sizes = store.format.sizes(store.files.take(np.arange(store.files.rows)))
        with ray_for(config.training):
            rows = fit(job, stream, open_record(config, job.run_folder))[0].history
    # The first interval warms up; the last row stands before the last checkpoint.
    found = {
        "steps": int(rows[-1]["step"] - rows[0]["step"]),
        "seconds": rows[-1]["elapsed_seconds"] - rows[0]["elapsed_seconds"],
        "loss": rows[-1]["loss"],
        "tokens_per_request": float(sizes[:, 0].mean() + sizes[:, 1].mean() * config.model.levels),
        **{f"{what}_seconds": sum(row[f"{what}_seconds"] for row in rows[1:]) for what in ("data", "checkpoint")},
    }
    print(json.dumps(found))


def ingest_child(size: str, batch: int) -> None:
    """Child process: read as a worker does, make its batches, and do nothing with them."""
    from adbeam.training.launch import ray_for

    os.environ.setdefault("RAY_worker_niceness", "0")
    with tempfile.TemporaryDirectory(prefix="adbeam-ingest-") as folder:
        config = config_of(size, Path(folder), batch_requests=batch, workers=1, epochs=999)
        store = random_store(Path(folder) / "rows", config, INGEST_STEPS * batch)
        job, stream = job_of(config, store, "ingest")
        steps = INGEST_EPOCHS * INGEST_STEPS
        with ray_for(config.training):
            began = time.perf_counter()
            for _, table in stream.tables(0, steps):
                job.maker.batch(table)
            seconds = time.perf_counter() - began
    print(json.dumps({"steps": steps, "seconds": seconds}))


CHILDREN: dict[str, Callable[..., None]] = {
    "plain": train_plain_child,
    "worker": train_worker_child,
    "ingest": ingest_child,
}


def _padding(stream: Any, row_format: Any, steps: int) -> float:
    real, places = 0, 0
    weight = np.array([1, row_format.levels])
    for _, table in stream.tables(0, steps):
        size_N2 = row_format.sizes(table) * weight
        real += int(size_N2.sum())
        places += len(size_N2) * int(size_N2.max(axis=0).sum())
    return 1 - real / places


def _child(name: str, **arguments: Any) -> Part:
    print(f"{name} {arguments}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", "benchmarks.training", name, json.dumps(arguments)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found = json.loads(answer.stdout.splitlines()[-1])
    print(f"  {found}", flush=True)
    return found


def _once(path: Path, name: str, run: Callable[[], Part], asked: dict[str, Any]) -> Part:
    """What `run` finds, or found before with the same arguments and the same code."""
    key = {"commit": commit(*MEASURED), "asked": asked}
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return kept["part"]
    print(f"part {name}", flush=True)
    part = run()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key, "part": part}), encoding="utf-8")
    return part


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--size", default="base", choices=("tiny", "small", "base", "paper"))
    parser.add_argument("--batch", type=int, default=64, help="requests in a step; the size base has 512")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--zero-stage", type=int, default=0, choices=range(4), help="of the worker whose speed is told")
    parser.add_argument("--workers", type=int, default=2, help="of the memory part")
    parser.add_argument("--rows-of", type=Path, help="a training_rows folder whose padding is measured")
    parser.add_argument("--keep", type=Path, default=Path("runs/benchmark-training"))
    return parser.parse_args()
