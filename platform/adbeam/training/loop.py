"""The loop of the generative model: VSL on requests, and candidate lists and checks where the run has them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch

from adbeam.features.batch import TrainBatch
from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.vsl import vsl_loss, vsl_over_prefixes
from adbeam.training.data.batches import CandidateBatch
from adbeam.training.data.stream import RequestStream
from adbeam.training.guards.early_stop import EarlyStop, ValidationJudge
from adbeam.training.job import Outcome, TrainJob
from adbeam.training.list_learner import ListLearner
from adbeam.training.state.checkpoint import RunState
from adbeam.training.state.deepspeed_engine import Engine
from adbeam.training.step_loop import Worker, run_worker

DATASET = "requests"


def train_worker(config: dict[str, Any]) -> Outcome:
    """What Ray Train runs on every worker (`config["job"]` is a TrainJob)."""
    import ray.train

    return run_job(config["job"], ray.train.get_dataset_shard(DATASET))


def run_job(job: TrainJob, stream: RequestStream) -> Outcome:
    """Train from the newest checkpoint, or from the start, to the end of the run."""
    return run_worker(job, stream, AdWorker)


class AdWorker(Worker):
    """The loop of the generative model: VSL on requests, and candidate lists where the run learns from them."""

    job: TrainJob

    def __init__(self, job: TrainJob, engine: Engine, state: RunState, stream: RequestStream) -> None:
        super().__init__(job, engine, state, stream)
        learns_lists = job.objectives.preference.method != "none"
        self.lists = ListLearner(job, engine, self.meter, self.world) if learns_lists else None
        self.early_stop = self._early_stop()

    def parts(self, table: pa.Table, lists: pa.Table | None) -> list[tuple[TrainBatch, CandidateBatch | None]]:
        """See Worker."""
        parts = list(self.job.maker.parts(table, self.training.gradient_accumulation))
        if lists is None:
            return [(part, None) for part in parts]
        return list(zip(parts, self.job.maker.list_parts(lists, len(parts)), strict=True))

    def learn(
        self, part: tuple[TrainBatch, CandidateBatch | None]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
        """See Worker."""
        batch, candidates = part[0].to(self.engine.device), part[1]
        loss, metrics = vsl_of(self.engine, batch, self.job.objectives)
        loss = loss * (batch.context.size / self.training.batch_requests)
        if candidates is not None and self.lists is not None:
            added, of_lists = self.lists.learn(candidates)
            loss, metrics = loss + added, {**metrics, **of_lists}
        return loss, metrics, batch.context.size

    def judge(self, table: pa.Table) -> None:
        """See Worker: rails of lists, and the early stop."""
        if self.lists is not None and self.state.step % self.training.rails.interval_steps == 0:
            self.lists.check(table)
        if self.early_stop is not None and self.early_stop.due():
            self._judge(self.early_stop)

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


def vsl_of(model: Any, batch: TrainBatch, objectives: ObjectivesConfig) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(L_VSL, metrics) of a batch under a model or the engine around it."""
    if batch.visible_BP.shape[1] > 1:
        losses = model(batch, mtp=objectives.lambda_mtp > 0, ecpm=objectives.lambda_ecpm > 0)
        return vsl_over_prefixes(losses, batch, objectives)
    return vsl_loss(model(batch, mtp=objectives.lambda_mtp > 0), batch, objectives)
