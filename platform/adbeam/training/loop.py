"""The training loop of one worker: DeepSpeed around the model, the same global batch whatever the number of workers.

L_VSL is a mean over requests, so each worker scales its part by its share of the batch and the gradients average to
those of the whole batch. One small all-reduce a step carries the loss and rank 0's clock: all workers then agree on the
learning rate, on stopping, and on refusing a loss that is not finite.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from adbeam.features.batch import TrainBatch
from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.vsl import vsl_loss, vsl_over_prefixes
from adbeam.training.data.stream import RequestStream
from adbeam.training.guards.anomaly import AnomalyGuard, LossNotFinite
from adbeam.training.guards.divergence import Diverged
from adbeam.training.guards.early_stop import EarlyStop, ValidationJudge
from adbeam.training.guards.preemption import NoticeBoard
from adbeam.training.job import Outcome, TrainJob, start
from adbeam.training.list_learner import ListLearner
from adbeam.training.state import checkpoint
from adbeam.training.state.average import WeightAverage
from adbeam.training.state.checkpoint import RunState
from adbeam.training.state.deepspeed_engine import Engine, clip_gradients, leaves_gradients
from adbeam.training.state.optimizer import learning_rate, set_learning_rate
from adbeam.training.tracking.progress import RunReporter
from adbeam.training.tracking.step_meter import Meter

logger = logging.getLogger(__name__)

DATASET = "requests"
LOSS, PROGRESS, ASK = 0, 1, 2
"""Places in the one tensor that a step's all-reduce sums: this worker's share of the loss, and what rank 0 alone says,
how far the run is and whether to ask for notices."""


def train_worker(config: dict[str, Any]) -> Outcome:
    """What Ray Train runs on every worker (`config["job"]` is a TrainJob)."""
    import ray.train

    return run_job(config["job"], ray.train.get_dataset_shard(DATASET))


def run_job(job: TrainJob, stream: RequestStream) -> Outcome:
    """Train from the newest checkpoint, or from the start, to the end of the run."""
    import ray.train

    torch.set_num_threads(job.training.threads_per_worker)
    engine, state = start(job, ray.train.get_context().get_local_rank())
    if state.finished or state.step >= job.total_steps:
        return Outcome(state.step, history=state.history)
    worker = _Worker(job, engine, state, stream)
    try:
        ended = worker.run()
    except (LossNotFinite, Diverged) as error:
        failure = {"what": str(error), "step": state.step, "rail": isinstance(error, Diverged)}
        logger.error("training stopped at step %d: %s", state.step, error)
        return Outcome(state.step, failure, state.history)
    finally:
        worker.close()
    return Outcome(state.step, history=state.history, stopped=not ended)


class _Worker:
    """One worker's loop over steps."""

    def __init__(self, job: TrainJob, engine: Engine, state: RunState, stream: RequestStream) -> None:
        import ray

        self.job, self.training, self.engine, self.state, self.stream = job, job.training, engine, state, stream
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
        learns_lists = job.objectives.preference.method != "none"
        self.lists = ListLearner(job, engine, self.meter, self.world) if learns_lists else None
        self.average, self.early_stop = self._average(), self._early_stop()

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
            if self.lists is not None and self.state.step % self.training.rails.interval_steps == 0:
                self.lists.check(table)
            if self.early_stop is not None and self.early_stop.due():
                self._judge(self.early_stop)
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
        parts = list(self.job.maker.parts(table, self.training.gradient_accumulation))
        candidates = [] if lists is None else list(self.job.maker.list_parts(lists, len(parts)))
        local = torch.zeros(3, device=self.engine.device)
        counted: list[tuple[dict[str, torch.Tensor], int]] = []
        loss_value, progress, ask, fault = 0.0, 0.0, False, None
        for index, part in enumerate(parts):
            part = part.to(self.engine.device)
            share = part.context.size / self.training.batch_requests
            loss, metrics = vsl_of(self.engine, part, self.job.objectives)
            loss = loss * share
            if candidates and self.lists is not None:
                added, of_lists = self.lists.learn(candidates[index])
                loss, metrics = loss + added, {**metrics, **of_lists}
            counted.append((metrics, part.context.size))
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

    def _early_stop(self) -> EarlyStop | None:
        config, job = self.training.early_stop, self.job
        if config.interval_steps is None:
            return None
        assert job.prepared is not None and job.sids is not None
        judge = None if self.rank else ValidationJudge(job.prepared, job.sids, job.model, config)
        return EarlyStop(config, self.state, judge)

    def _judge(self, early_stop: EarlyStop) -> None:
        """Judge what the run would publish now; the run ends where it got no better for long enough."""
        weights = dict(self.engine.module.named_parameters()) if self.average is None else self.average.mean
        value, ends = early_stop.check(weights | dict(self.engine.module.named_buffers()))
        self.meter.note({"validation_ndcg": value, "best_step": float(self.state.best_step)})
        self.state.finished = self.state.finished or ends

    def _progress(self, step: int) -> float:
        """How much of the run will be done after this step: by steps, or by the clock where that is further."""
        by_step = (step + 1) / self.job.total_steps
        budget = self.training.time_budget_seconds
        return by_step if budget is None else max(by_step, (time.monotonic() - self.started) / budget)

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


def vsl_of(model: Any, batch: TrainBatch, objectives: ObjectivesConfig) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(L_VSL, metrics) of a batch under a model or the engine around it."""
    if batch.visible_BP.shape[1] > 1:
        losses = model(batch, mtp=objectives.lambda_mtp > 0, ecpm=objectives.lambda_ecpm > 0)
        return vsl_over_prefixes(losses, batch, objectives)
    return vsl_loss(model(batch, mtp=objectives.lambda_mtp > 0), batch, objectives)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout depends on the step only, so that a resumed run draws what an uninterrupted one does."""
    torch.manual_seed((seed * 1_000_003 + step) * 4096 + rank)
