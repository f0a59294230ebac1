"""The slow judge: scores every semantic ID with the model's own step functions, no trie, no beams, no shortcuts.

Shapes: B requests, n semantic IDs, T levels, W = n sequences of one chunk, K eCPM buckets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adbeam.features.batch import ContextBatch
from adbeam.model.context import ContextState
from adbeam.model.heads import SidDecoder


@torch.inference_mode()
def score_all(model: SidDecoder, context: ContextBatch, sids_nT: Tensor, chunk: int = 512) -> tuple[Tensor, Tensor]:
    """(log p(SID | X) [B, n] in nats, p(eCPM bucket | SID, X) [B, n, K]), normalised over full codebooks."""
    model.eval()
    state = model.encode(context)
    trunk = model.trunk(state)
    parts = [_score(model, state, trunk, piece_nT) for piece_nT in torch.split(sids_nT.long(), chunk)]
    return torch.cat([log_p for log_p, _ in parts], dim=1), torch.cat([ecpm for _, ecpm in parts], dim=1)


def brute_force(model: SidDecoder, context: ContextBatch, sids_nT: Tensor, chunk: int = 512) -> tuple[Tensor, Tensor]:
    """(log-probabilities in falling order [B, n], their semantic IDs [B, n, T])."""
    log_p_Bn, _ = score_all(model, context, sids_nT, chunk)
    value, place = log_p_Bn.sort(dim=1, descending=True, stable=True)
    return value, sids_nT[place]


def _score(model: SidDecoder, state: ContextState, trunk_BTD: Tensor, sids_nT: Tensor) -> tuple[Tensor, Tensor]:
    B, (n, T) = len(trunk_BTD), sids_nT.shape
    step: Callable[..., tuple[Tensor, Any]] = model.step  # each takes back the state that it gave
    cache, total_Bn = None, torch.zeros(B, n)
    for level in range(T + 1):
        code_BW = None if level == 0 else sids_nT[:, level - 1].expand(B, n)
        parent_BW = torch.zeros(B, n, dtype=torch.long) if level == 1 else None
        h_BWD, cache = step(level, trunk_BTD, state, code_BW, parent_BW, cache)
        logits = model.head(level, h_BWD)
        if level < T:
            path_BQt = sids_nT[:, :level].expand(B, n, level) if level else sids_nT[:1, :0].expand(B, 1, 0)
            logits = logits + model.prior(level, state, path_BQt)
        if level == T:
            return total_Bn, torch.softmax(logits, dim=-1)
        log_p_BWV = torch.log_softmax(logits, dim=-1).expand(B, n, -1)
        total_Bn = total_Bn + log_p_BWV.gather(2, sids_nT[:, level].expand(B, n)[..., None])[..., 0]
    raise AssertionError("unreachable")
