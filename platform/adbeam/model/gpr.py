"""GPR, the one-model generator of arXiv 2511.10138: HSD reads a request's typed sequence, PTD generates the code path.

HSD (`model/hsd/`) gives intent embeddings, thinking tokens filter them, and the layers of LazyAR decode the path from
these: `lazy_layers: 0` is the paper's plain path, more of them run once a request for all beams ("lazy" PTD, not in
GPR). Search, priors, eCPM step and losses are LazyAR's.

Several prediction heads (GPR eq 3) share all of it but the thinking tokens: each generates a whole path for a target of
its own, and `decoding/heads.py` mixes their answers.

Shapes: B requests, M targets, m targets of one head, T SID levels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from adbeam.features.batch import TrainBatch
from adbeam.model.config import ModelConfig
from adbeam.model.context import ContextProcessor
from adbeam.model.hsd.context import HsdContext
from adbeam.model.lazyar import LazyAR


class Gpr(LazyAR):
    """HSD, thinking tokens and the code path."""

    def read_context(self, config: ModelConfig) -> ContextProcessor:
        """HSD with thinking tokens; without any the path reads all intent embeddings."""
        return HsdContext(config, thinking=config.gpr.thinking_tokens > 0)

    def train_losses(self, batch: TrainBatch, mtp: bool = True, ecpm: bool = True) -> dict[str, Tensor]:
        """As of LazyAR; each target by the head that `head_BPM` names, all by the first where nothing is named."""
        heads = len(self.config.mixture)
        if batch.head_BPM is None or heads == 1:
            return super().train_losses(batch, mtp, ecpm)
        if batch.code_BPMT.shape[1] > 1:
            raise ValueError("tokens of HSD know each other: each prefix needs a context of its own")
        B, state = batch.context.size, self.encode(batch.context.for_heads(heads))
        losses: dict[str, Tensor] = {}
        for head in range(heads):
            mine_BM = batch.head_BPM[:, 0] == head
            # At least one, of whatever head: workers of ZeRO-3 must run the same layers.
            most = max(1, int(mine_BM.sum(1).max()))
            place_Bm = mine_BM.long().argsort(dim=1, descending=True, stable=True)[:, :most]
            found = self.path_losses(
                state.rows(slice(head * B, (head + 1) * B)), _targets_at(batch, place_Bm), mtp, ecpm
            )
            for name, loss in found.items():
                kept = loss * mine_BM.gather(1, place_Bm)[:, None]
                whole = losses.get(name, kept.new_zeros(*kept.shape[:-1], mine_BM.shape[1]))
                losses[name] = whole.scatter_add(-1, place_Bm[:, None].expand(kept.shape), kept)
        return losses


def _targets_at(batch: TrainBatch, place_Bm: Tensor) -> TrainBatch:
    """The batch with some of its targets."""
    row_B1 = torch.arange(len(place_Bm), device=place_Bm.device)[:, None]
    return replace(
        batch,
        code_BPMT=batch.code_BPMT[:, 0][row_B1, place_Bm][:, None],
        bucket_BPM=batch.bucket_BPM[:, 0][row_B1, place_Bm][:, None],
        weight_BPM=batch.weight_BPM[:, 0][row_B1, place_Bm][:, None],
        head_BPM=None,
    )
