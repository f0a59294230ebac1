"""The training loop of one worker, whatever it trains: DeepSpeed around a model, the same global batch on any workers.

A loss is a mean over the rows of a step, so each worker scales its part by its share of the batch and the gradients
average to those of the whole batch. One small all-reduce a step carries the loss and rank 0's clock: all workers then
agree on the learning rate, on stopping, and on refusing a loss that is not finite.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from adbeam.training.data.stream import RequestStream
from adbeam.training.guards.anomaly import AnomalyGuard, LossNotFinite
from adbeam.training.guards.divergence import Diverged
from adbeam.training.guards.preemption import NoticeBoard
from adbeam.training.job import Job, Outcome, start
from adbeam.training.state import checkpoint
from adbeam.training.state.average import WeightAverage
from adbeam.training.state.checkpoint import RunState
from adbeam.training.state.deepspeed_engine import Engine, clip_gradients, leaves_gradients
from adbeam.training.state.optimizer import learning_rate, set_learning_rate
from adbeam.training.tracking.progress import RunReporter
from adbeam.training.tracking.step_meter import Meter

logger = logging.getLogger(__name__)

LOSS, PROGRESS, ASK = 0, 1, 2
"""Places in the one tensor that a step's all-reduce sums: this worker's share of the loss, and what rank 0 alone says,
how far the run is and whether to ask for notices."""


def run_worker(job: Job, stream: RequestStream, worker_type: type[Worker]) -> Outcome:
    """Train from the newest checkpoint, or from the start, to the end of the run."""
    import ray.train

    torch.set_num_threads(job.training.threads_per_worker)
    engine, state = start(job, ray.train.get_context().get_local_rank())
    if state.finished or state.step >= job.total_steps:
        return Outcome(state.step, history=state.history)
    worker = worker_type(job, engine, state, stream)
    try:
        ended = worker.run()
    except (LossNotFinite, Diverged) as error:
        failure = {"what": str(error), "step": state.step, "rail": isinstance(error, Diverged)}
        logger.error("training stopped at step %d: %s", state.step, error)
        return Outcome(state.step, failure, state.history)
    finally:
        worker.close()
    return Outcome(state.step, history=state.history, stopped=not ended)


class Worker(ABC):
    """One worker's loop over steps; what a step learns from is for those who derive from it."""

    def __init__(self, job: Any, engine: Engine, state: RunState, stream: RequestStream) -> None:
        import ray

        self.job: Any = job
        self.training, self.engine, self.state, self.stream = job.training, engine, state, stream
        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.started = time.monotonic() - state.elapsed_seconds
        self.meter = Meter(job.training.batch_requests)
        self.guard = AnomalyGuard(job.training.anomaly, state.losses, state.skipped)
        self.notices = NoticeBoard(job.stop, self.rank, self.world)
        board = job.run_folder / "tensorboard"
        self.reporter = (
            RunReporter(board, job.post, first_step=state.step, prometheus=ray.is_initialized())
            if self.rank == 0
            else None
        )
        self.average = self._average()

    @abstractmethod
    def parts(self, table: pa.Table, lists: pa.Table | None) -> list[Any]:
        """A step's rows (and lists) in `gradient_accumulation` parts."""

    @abstractmethod
    def learn(self, part: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
        """(this part's share of the loss of the whole batch, metrics, rows) of one part."""

    @abstractmethod
    def judge(self, table: pa.Table) -> None:
        """Looks at the run after a step; may say in `state` that it is finished."""

    def run(self) -> bool:
        """All steps that are left, with a checkpoint every interval and one at the end; false when told to stop."""
        steps = iter(self.stream.steps(self.state.step, self.job.total_steps))
        while True:
            with self.meter.time("data"):
                item = next(steps, None)
            if item is None:
                return True
            step, table, lists = item
            progress, ask = self._step(step, table, lists)
            self.state.step = step + 1
            self.state.elapsed_seconds = time.monotonic() - self.started
            self.state.finished = self.state.step >= self.job.total_steps or progress >= 1.0
            self.judge(table)
            due = self.state.step % self.training.report_interval_steps == 0 or self.state.finished
            if due and self.meter.steps:
                self._report(progress)
            notice = self.notices.ask() if ask and not self.state.finished else None
            told = notice is not None and (notice.node or notice.stop)
            if self.state.finished or told or self.state.step % self.training.checkpoint_interval_steps == 0:
                with self.meter.time("checkpoint"):
                    self._checkpoint(at_once=told)
            if self.state.finished:
                return True
            if notice is not None and notice.stop:
                return False

    def close(self) -> None:
        """Flush what is being written and free the engine."""
        if self.reporter is not None:
            self.reporter.close()
        self.engine.destroy()

    def _step(self, step: int, table: pa.Table, lists: pa.Table | None) -> tuple[float, bool]:
        """One optimiser step: (progress of the run in [0, 1], whether to ask for notices), agreed by all workers."""
        seed_step(self.job.seed, step, self.rank)
        parts = self.parts(table, lists)
        local = torch.zeros(3, device=self.engine.device)
        counted: list[tuple[dict[str, torch.Tensor], int]] = []
        loss_value, progress, ask, fault = 0.0, 0.0, False, None
        for index, part in enumerate(parts):
            loss, metrics, rows = self.learn(part)
            counted.append((metrics, rows))
            local[LOSS] += loss.detach()
            if index + 1 == len(parts):
                loss_value, progress, ask = self._agree(step, local)
                fault = self.guard.of_loss(step, loss_value)
            # Gradients that are no numbers move nothing. DeepSpeed averages over workers and parts: `share` did.
            self.engine.backward(loss * (math.nan if fault else self.world * len(parts)))
            if index + 1 < len(parts):
                self.engine.step()
        if self._apply(step, progress, loss_value, fault):
            for metrics, requests in counted:
                self.meter.add(metrics, requests)
        self.state.skipped = self.guard.skipped
        return progress, ask

    def _apply(self, step: int, progress: float, loss: float, fault: str | None) -> bool:
        """Move the weights, unless the step is anomalous; tells whether they moved."""
        rate = learning_rate(self.training, step, progress)
        set_learning_rate(self.engine.optimizer, rate)
        here, limit = leaves_gradients(self.training), self.training.gradient_clipping
        norm = clip_gradients(self.engine.module, limit) if here and not fault else None
        if here and (norm is None or not math.isfinite(norm)):
            self.engine.zero_grad()
            self.engine.micro_steps += 1
            moved = False
        else:
            self.engine.step()
            norm = self.engine.get_global_grad_norm() if norm is None else norm
            moved = self.engine.was_step_applied()
        if not moved:
            if not fault:
                self.guard.of_gradient(step, math.nan if norm is None else float(norm))
            return False
        self.guard.good(loss)
        if self.average is not None:
            self.average.update(self.engine.module, self.state.step + 1 - self.guard.skipped)
            self.state.average = self.average.mean
        self.meter.done(loss, rate, 0.0 if norm is None else float(norm))
        return True

    def _average(self) -> WeightAverage | None:
        decay = self.training.average_decay
        if decay is None or self.rank:
            return None
        return WeightAverage(decay, self.engine.module, self.state.average)

    def _progress(self, step: int) -> float:
        """How much of the run will be done after this step: by steps, or by the clock where that is further."""
        by_step: float = (step + 1) / self.job.total_steps
        budget = self.training.time_budget_seconds
        spent: float = time.monotonic() - self.started
        return float(by_step if budget is None else max(by_step, spent / budget))

    def _agree(self, step: int, local: torch.Tensor) -> tuple[float, float, bool]:
        """(loss of the whole batch, progress, whether to ask for notices): the latter two by rank 0's clock."""
        if self.rank == 0:
            local[PROGRESS], local[ASK] = self._progress(step), float(self.notices.due())
        if self.world > 1:
            torch.distributed.all_reduce(local)
        agreed = local.tolist()
        return agreed[LOSS], agreed[PROGRESS], agreed[ASK] > 0

    def _report(self, progress: float) -> None:
        row = self.meter.row(self.state, progress)
        self.state.history.append(row)
        if self.reporter is not None:
            self.reporter.report(row)

    def _checkpoint(self, at_once: bool) -> None:
        """Save; Ray Train uploads in the background while training goes on, but for what must be there at the end."""
        import ray.train
        from ray.train import CheckpointUploadMode

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
        checkpoint.seal(Path(staging), self.rank)
        wait = self.state.finished or at_once
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(staging),
            checkpoint_dir_name=checkpoint.name(self.state, self.training),
            checkpoint_upload_mode=CheckpointUploadMode.SYNC if wait else CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout depends on the step only, so that a resumed run draws what an uninterrupted one does."""
    torch.manual_seed((seed * 1_000_003 + step) * 4096 + rank)
