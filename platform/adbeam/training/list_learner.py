"""Learning from lists inside the training loop: their share of the loss, and the rails that watch it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.lists import list_loss
from adbeam.objectives.rspo import ListBatch
from adbeam.training.data.batches import CandidateBatch
from adbeam.training.guards.divergence import WATCHED, Diverged, LiveSids, Rails, probe
from adbeam.training.state.deepspeed_engine import Engine, whole_weights
from adbeam.training.tracking.step_meter import Meter

if TYPE_CHECKING:
    from adbeam.training.job import TrainJob


class ListLearner:
    """One worker's side of the lists."""

    def __init__(self, job: TrainJob, engine: Engine, meter: Meter, world: int) -> None:
        self.job, self.engine, self.meter, self.world = job, engine, meter, world
        self.rails = Rails(job.training.rails)
        self.live = LiveSids.read(job.sids, job.model.codebooks) if job.sids else None
        self.divergence: list[torch.Tensor] = []

    def learn(self, candidates: CandidateBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(this part's share of the weighted list loss, metrics)."""
        candidates = candidates.to(self.engine.device)
        share = candidates.batch.context.size / self.job.training.batch_lists
        loss, metrics = lists_of(self.engine, candidates, self.job.objectives)
        self.divergence.append(metrics["list_kl"])
        return loss * (share * self.job.objectives.preference.weight), {**metrics, "list_loss": loss.detach()}

    def check(self, table: pa.Table) -> None:
        """Raise Diverged, on all workers alike, where a value was beyond its bound for long enough."""
        values = {"list_kl": float(torch.stack(self.divergence).mean())} if self.divergence else {}
        self.divergence.clear()
        if self.live is not None:
            values |= self._probe(table)
        agreed = torch.tensor([values.get(name, math.nan) for name in WATCHED], device=self.engine.device)
        if self.world > 1:
            torch.distributed.all_reduce(agreed)
        shown = dict(zip(WATCHED, (agreed / self.world).tolist(), strict=True))
        self.meter.note({name: value for name, value in shown.items() if name != "list_kl"})
        reason = self.rails.check(shown)
        if reason is not None:
            raise Diverged(reason)

    def _probe(self, table: pa.Table) -> dict[str, float]:
        """What the model draws freely for some contexts of this step; it is one draw, whatever the step."""
        assert self.live is not None
        context = self.job.maker.batch(table.slice(0, self.job.training.rails.probe_requests)).context
        generator = torch.Generator().manual_seed(self.job.seed)
        self.engine.eval()
        try:
            with whole_weights(self.engine.module, self.job.training.zero_stage):
                return probe(self.engine.module, context.to(self.engine.device), self.live, generator)
        finally:
            self.engine.train()


def lists_of(
    model: Any, candidates: CandidateBatch, objectives: ObjectivesConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(the list loss without its weight, metrics) of lists under a model or the engine around it."""
    preference = objectives.preference
    losses = model(candidates.batch, mtp=preference.unified and objectives.lambda_mtp > 0)
    lists = ListBatch(-losses["sid"][:, 0], candidates.reference_BN, candidates.reward_BN, candidates.mask_BN)
    return list_loss(losses, lists, objectives)
