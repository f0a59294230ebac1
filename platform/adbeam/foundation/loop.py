"""The foundation inside the training loop: what its run needs, and what a step of it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from adbeam.foundation.config import FoundationConfig
from adbeam.foundation.data.rows import from_table
from adbeam.foundation.net.model import FoundationNet, RowBatch, foundation_loss
from adbeam.training.job import Job, Outcome
from adbeam.training.loop import DATASET
from adbeam.training.step_loop import Worker, run_worker


@dataclass(frozen=True, kw_only=True)
class FoundationJob(Job):
    """A run of the foundation."""

    foundation: FoundationConfig
    scenes: int

    def build(self) -> torch.nn.Module:
        """See Job."""
        return FoundationNet(self.foundation, self.scenes)


def foundation_worker(config: dict[str, Any]) -> Outcome:
    """What Ray Train runs on every worker (`config["job"]` is a FoundationJob)."""
    import ray.train

    return run_worker(config["job"], ray.train.get_dataset_shard(DATASET), FoundationWorker)


class FoundationWorker(Worker):
    """The loop over rows of both branches."""

    job: FoundationJob

    def parts(self, table: pa.Table, lists: pa.Table | None) -> list[RowBatch]:
        """See Worker."""
        edges = np.linspace(0, len(table), self.training.gradient_accumulation + 1).round().astype(int).tolist()
        return [RowBatch.of(from_table(table.slice(start, end - start))) for start, end in pairwise(edges)]

    def learn(self, part: RowBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
        """See Worker."""
        batch = part.to(self.engine.device)
        loss, metrics = foundation_loss(self.engine(batch), batch)
        return loss * (len(batch) / self.training.batch_requests), metrics, len(batch)

    def judge(self, table: pa.Table) -> None:
        """See Worker: nothing but its end, its loss or a notice ends a run of the foundation."""
