"""Early stop: the model's lists for some validation requests are judged, and a run that gets no better ends.

Rank 0 judges the averaged weights where the run averages, else the weights, and tells the others what it found; the
weights of the best check are what the run publishes. NDCG@10 of whole lists found by beam search, as `evaluate` asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from adbeam.bundle import catalogue_with_sids
from adbeam.decoding import Decoder
from adbeam.errors import UserError
from adbeam.evaluation.metrics import ndcg_at
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import Request, read_sequences, requests_in
from adbeam.model import build_model
from adbeam.model.config import ModelConfig
from adbeam.training.config import EarlyStopConfig
from adbeam.training.state.checkpoint import RunState

FIRST = 10
VALIDATION = "validation"


class ValidationJudge:
    """Judges weights on validation requests; made once a run, on rank 0."""

    def __init__(self, prepared: Path, sids: Path, model: ModelConfig, config: EarlyStopConfig) -> None:
        log = PreparedLog.open(prepared, verify=False)
        self.requests = validation_requests(log, config.requests)
        self.widths = (config.beam_width,) * model.levels
        self.recommender = Recommender(
            build_model(model),
            catalogue_with_sids(log.catalogue(), pq.read_table(sids, columns=["item_id", "sid"])),
            [0.0] * model.ecpm_buckets,
            include_paused=True,
            trends=log.trends(),
        )

    def ndcg(self, weights: Mapping[str, Tensor]) -> float:
        """Mean NDCG@10 of the ads that followed, over the requests."""
        model = self.recommender.model
        model.load_state_dict(dict(weights), strict=False)
        # A decoder lays weights out for itself when it is made.
        self.recommender.decoder = Decoder(model, self.recommender.trie, order_by="log_probability", ecpm_step=False)
        lists = self.recommender.rank(self.requests, self.widths, FIRST)
        targets = [request.ad_targets() for request in self.requests]
        return float(np.mean([ndcg_at(found, one, FIRST) for found, one in zip(lists, targets, strict=True)]))


class EarlyStop:
    """When a run is judged, and what its state remembers of that."""

    def __init__(self, config: EarlyStopConfig, state: RunState, judge: ValidationJudge | None) -> None:
        """`judge` is there on rank 0 alone."""
        assert config.interval_steps is not None
        self.config, self.state, self.judge = config, state, judge
        self.interval = config.interval_steps

    def due(self) -> bool:
        """Whether the run is judged after this step."""
        return self.state.step % self.interval == 0 or self.state.finished

    def check(self, weights: Mapping[str, Tensor]) -> tuple[float, bool]:
        """(NDCG@10 of the weights, whether the run ends); every rank must call, and rank 0's weights count."""
        found = torch.zeros(1, dtype=torch.float64)
        if self.judge is not None:
            found[0] = self.judge.ndcg(weights)
        if torch.distributed.get_world_size() > 1:
            torch.distributed.broadcast(found, src=0)
        value, state = float(found), self.state
        if value > state.best_value:
            state.best_value, state.best_step = value, state.step
            if self.judge is not None:
                state.best = {name: weight.detach().float().cpu().clone() for name, weight in weights.items()}
        return value, state.step - state.best_step >= self.config.patience_checks * self.interval


def validation_requests(log: PreparedLog, most: int) -> list[Request]:
    """Requests of the validation split in which an ad was the target; of more than `most` so many are drawn, the
    same ones every time. Raises UserError where there is none."""
    found = [
        request
        for shard in log.sequences()
        for sequence in read_sequences(shard)
        for request in requests_in(sequence, VALIDATION, log.target_action)
        if request.ad_targets()
    ]
    if not found:
        raise UserError(
            f"the validation split holds no request with an ad {log.target_action}",
            field="training.early_stop.interval_steps",
            remedy="check logs.split, or leave early_stop out",
        )
    chosen = np.sort(np.random.default_rng(0).choice(len(found), min(most, len(found)), replace=False))
    return [found[place] for place in chosen.tolist()]
