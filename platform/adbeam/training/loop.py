"""The training loop of one worker: DeepSpeed around the model, the same global batch whatever the number of workers.

L_VSL is a mean over requests, so each worker scales its part by its share of the batch and the gradients average to
those of the whole batch. One small all-reduce a step carries the loss and rank 0's clock: all workers then agree on the
learning rate, on stopping, and on refusing a loss that is not finite.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from adbeam.model.batch import TrainBatch
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR
from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.vsl import vsl_loss
from adbeam.training import checkpoint
from adbeam.training.batches import BatchMaker
from adbeam.training.checkpoint import RunState
from adbeam.training.config import TrainingConfig
from adbeam.training.engine import build_engine
from adbeam.training.meter import Meter
from adbeam.training.optimizer import learning_rate, set_learning_rate
from adbeam.training.progress import Post, Row, RunReporter, print_nothing
from adbeam.training.stream import RequestStream

DATASET = "requests"


@dataclass(frozen=True)
class TrainJob:
    """Everything a worker needs beside its data."""

    model: ModelConfig
    objectives: ObjectivesConfig
    training: TrainingConfig
    maker: BatchMaker
    seed: int
    total_steps: int
    run_folder: Path
    post: Post = print_nothing
    checkpoints: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a worker returns; `failure` names what stopped the run for good."""

    step: int
    failure: dict[str, Any] | None = None
    history: list[Row] = field(default_factory=list)


class LossNotFinite(Exception):
    """The loss or the gradient is NaN or infinite. All workers raise it together."""


def train_worker(config: dict[str, Any]) -> Outcome:
    """What Ray Train runs on every worker (`config["job"]` is a TrainJob)."""
    import ray.train

    return run_job(config["job"], ray.train.get_dataset_shard(DATASET))


def run_job(job: TrainJob, stream: RequestStream) -> Outcome:
    """Train from the newest checkpoint, or from the start, to the end of the run."""
    import ray.train

    torch.set_num_threads(job.training.threads_per_worker)
    engine, state = _start(job, ray.train.get_context().get_local_rank())
    if state.finished or state.step >= job.total_steps:
        return Outcome(state.step, history=state.history)
    worker = _Worker(job, engine, state, stream)
    try:
        worker.run()
    except LossNotFinite as error:
        return Outcome(state.step, {"what": str(error), "step": state.step}, state.history)
    finally:
        worker.close()
    return Outcome(state.step, history=state.history)


def _start(job: TrainJob, local_rank: int) -> tuple[Any, RunState]:
    torch.manual_seed(job.seed)
    model = LazyAR(job.model)
    model.train()
    folder = _newest(job) if job.checkpoints else None
    if folder is not None:
        return checkpoint.restore(model, job.training, folder, local_rank)
    return build_engine(model, job.training, torch.distributed.get_world_size()), RunState()


def _newest(job: TrainJob) -> Path | None:
    """The folder of the newest checkpoint, on this machine."""
    import ray.train

    if job.training.local:
        return checkpoint.newest_local(job.run_folder / "checkpoints")
    found = ray.train.get_checkpoint()
    return None if found is None else Path(found.to_directory()) if _remote(found) else Path(found.path)


def _remote(found: Any) -> bool:
    return not Path(found.path).is_dir()


class _Worker:
    """One worker's loop over steps."""

    def __init__(self, job: TrainJob, engine: Any, state: RunState, stream: RequestStream) -> None:
        import ray

        self.job, self.training, self.engine, self.state, self.stream = job, job.training, engine, state, stream
        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.started = time.monotonic() - state.elapsed_seconds
        self.meter = Meter(job.training.batch_requests)
        board = job.run_folder / "tensorboard"
        self.reporter = (
            RunReporter(board, job.post, first_step=state.step, prometheus=ray.is_initialized())
            if self.rank == 0
            else None
        )

    def run(self) -> None:
        """All steps that are left, with a checkpoint every interval and one at the end."""
        for step, table in self.stream.tables(self.state.step, self.job.total_steps):
            progress = self._step(step, table)
            self.state.step = step + 1
            self.state.elapsed_seconds = time.monotonic() - self.started
            self.state.finished = self.state.step >= self.job.total_steps or progress >= 1.0
            due = self.state.step % self.training.report_interval_steps == 0 or self.state.finished
            if due and self.meter.steps:
                self._report(progress)
            if self.state.finished or self.state.step % self.training.checkpoint_interval_steps == 0:
                self._checkpoint()
            if self.state.finished:
                return

    def close(self) -> None:
        """Flush what is being written and free the engine."""
        if self.reporter is not None:
            self.reporter.close()
        self.engine.destroy()

    def _step(self, step: int, table: pa.Table) -> float:
        """One optimiser step; returns the progress of the run in [0, 1] that all workers agree on."""
        seed_step(self.job.seed, step, self.rank)
        parts = list(self.job.maker.parts(table, self.training.gradient_accumulation))
        local = torch.zeros(2, device=self.engine.device)
        for index, part in enumerate(parts):
            part = part.to(self.engine.device)
            share = part.context.size / self.training.batch_requests
            loss, metrics = vsl_of(self.engine, part, self.job.objectives)
            self.engine.backward(loss * (share * self.world * len(parts)))
            local[0] += loss.detach() * share
            self.meter.add(metrics, part.context.size)
            if index + 1 < len(parts):
                self.engine.step()
        local[1] = self._progress(step) if self.rank == 0 else 0.0
        loss_value, progress = self._agree(local)
        if not math.isfinite(loss_value):
            raise LossNotFinite(f"the loss of step {step + 1} is {loss_value}")
        self._apply(step, progress, loss_value)
        return progress

    def _apply(self, step: int, progress: float, loss: float) -> None:
        """Move the weights."""
        rate = learning_rate(self.training, step, progress)
        set_learning_rate(self.engine.optimizer, rate)
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        if norm is not None and not math.isfinite(float(norm)):
            raise LossNotFinite(f"the gradient norm of step {step + 1} is {float(norm)}")
        self.meter.done(loss, rate, 0.0 if norm is None else float(norm))

    def _progress(self, step: int) -> float:
        """How much of the run will be done after this step: by steps, or by the clock where that is further."""
        by_step = (step + 1) / self.job.total_steps
        budget = self.training.time_budget_seconds
        return by_step if budget is None else max(by_step, (time.monotonic() - self.started) / budget)

    def _agree(self, local: torch.Tensor) -> tuple[float, float]:
        if self.world > 1:
            torch.distributed.all_reduce(local)
        loss, progress = local.tolist()
        return loss, progress

    def _report(self, progress: float) -> None:
        row = self.meter.row(self.state, progress)
        self.state.history.append(row)
        if self.reporter is not None:
            self.reporter.report(row)

    def _checkpoint(self) -> None:
        """Save; Ray Train uploads in the background while training goes on."""
        import ray.train

        if not self.job.checkpoints:
            return
        metrics = self.state.history[-1] if self.state.history else {}
        if self.training.local:
            folder = self.job.run_folder / "checkpoints"
            path = checkpoint.publish_local(folder, self.engine, self.state, self.training)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(path))
            return
        staging = tempfile.mkdtemp(prefix="adbeam-checkpoint-")
        checkpoint.save(self.engine, self.state, self.training, Path(staging))
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(staging),
            checkpoint_dir_name=checkpoint.name(self.state, self.training),
            delete_local_checkpoint_after_upload=True,
        )


def vsl_of(model: Any, batch: TrainBatch, objectives: ObjectivesConfig) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(L_VSL, metrics) of a batch under a model or the engine around it."""
    return vsl_loss(model(batch, mtp=objectives.lambda_mtp > 0), batch, objectives)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout depends on the step only, so that a resumed run draws what an uninterrupted one does."""
    torch.manual_seed((seed * 1_000_003 + step) * 4096 + rank)
