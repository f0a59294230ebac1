"""`python -m benchmarks.training_phases`: where a step of DeepSpeed takes longer than a plain one, on one worker.

The same model, batches and dropout in both; their steps are taken in turn in one process, medians of each phase. With
ZeRO clipping is part of the optimiser's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adbeam.model import build_model
from adbeam.training.launch import single_process_group
from adbeam.training.loop import vsl_of
from adbeam.training.state.deepspeed_engine import build_engine, clip_gradients, leaves_gradients
from adbeam.training.state.optimizer import build_optimizer
from adbeam.training.step_loop import seed_step
from benchmarks.rig.report import report
from benchmarks.training.setup import config_of, job_of, random_store

WARM_UP = 3


class Clock:
    """Seconds of each phase, step by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[phase].append(time.perf_counter() - began)


def main() -> None:
    """Write training_phases.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base", choices=("tiny", "small", "base"))
    parser.add_argument("--batch", type=int, default=64, help="requests in a step")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--zero-stages", type=int, nargs="+", default=[0, 1, 2, 3], choices=range(4))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    with single_process_group():
        for stage in asked.zero_stages:
            median = phases(asked.size, asked.batch, asked.steps, stage)
            plain = sum(ms for phase, ms in median.items() if phase.startswith("plain"))
            figures |= {f"zero{stage}_{phase}_ms": ms for phase, ms in median.items()}
            figures[f"zero{stage}_over_plain_seconds"] = (sum(median.values()) - plain) / plain
    report("training_phases", figures, vars(asked))


def phases(size: str, batch: int, steps: int, zero_stage: int) -> dict[str, float]:
    """Median milliseconds of each phase of the plain and of DeepSpeed's steps; a process group must be there."""
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="adbeam-phases-") as folder:
        given = {"batch_requests": batch, "workers": 0, "zero_stage": zero_stage, "epochs": 99}
        config = config_of(size, Path(folder), **given)
        job, stream = job_of(config, random_store(Path(folder) / "rows", config, 32 * batch), "phases")
        plain = build_model(job.model).train()
        model = build_model(job.model).train()
        model.load_state_dict(plain.state_dict())
        optimizer, engine = build_optimizer(plain, job.training), build_engine(model, job.training, world=1)
        for step, table, _ in stream.steps(0, WARM_UP + steps):
            rows = job.maker.batch(table)
            for way in ("plain", "deepspeed") if step % 2 else ("deepspeed", "plain"):
                seed_step(job.seed, step, rank=0)
                if way == "plain":
                    _plain_step(clock, plain, optimizer, rows, job)
                else:
                    _engine_step(clock, engine, rows, job)
        engine.destroy()
    return {phase: 1000 * float(np.median(taken[WARM_UP:])) for phase, taken in clock.seconds.items()}


def _plain_step(clock: Clock, model: Any, optimizer: torch.optim.Optimizer, batch: Any, job: Any) -> None:
    with clock("plain_forward"):
        loss, _ = vsl_of(model, batch, job.objectives)
    with clock("plain_backward"):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
    with clock("plain_clipping"):
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.training.gradient_clipping)
    with clock("plain_optimizer"):
        optimizer.step()


def _engine_step(clock: Clock, engine: Any, batch: Any, job: Any) -> None:
    with clock("deepspeed_forward"):
        loss, _ = vsl_of(engine, batch, job.objectives)
    with clock("deepspeed_backward"):
        engine.backward(loss)
    with clock("deepspeed_clipping"):
        if leaves_gradients(job.training):
            clip_gradients(engine.module, job.training.gradient_clipping)
    with clock("deepspeed_optimizer"):
        engine.step()
