"""A prior over codes from the user's own history: what was bought often, lately, or is due again.

Not part of GR4AD. In logs where people buy the same things again, most of the answer stands in the context already,
and attention needs very many samples to learn to copy it. Here every history token votes for its own next code with a
weight that its features give, wherever its codes so far are those of the beam:

    logit(s_t = v | s_<t, X) += log(1 + sum of w_t(token) over tokens with codes (s_<t, v))
    w_t(token) = exp(sum of one learned number for each feature of the token)

Probabilities stay normalised over the codebook. Two beams never share a prefix, so a token votes in at most one of
them: the search follows tokens, not pairs of tokens and beams (decoding/engine.py).

Shapes: B requests, S context, C token features, T SID levels, V codebook, P prefixes of a context, M targets.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from adbeam.model.batch import ContextBatch
from adbeam.model.config import ModelConfig
from adbeam.model.spec import COUNT, FeatureSpec

MAX_LOG_WEIGHT = 12.0
GAIN = 5.0
"""The learned numbers are kept this much smaller, so that one learning rate suits them and the matrices."""
FIRST_LOG_WEIGHT = 1.0
"""Of a token of the long pathway at level 0; each level below starts 1.5 higher, since fewer tokens are left there."""


class HistoryPrior(nn.Module):
    """Weights of the history tokens, [B, S, T]; 0 where there is no token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.spec = FeatureSpec.of(config)
        self.tables = nn.ModuleList(nn.Embedding(size, config.levels) for size in self.spec.token.values())
        self.initialise()

    def initialise(self) -> None:
        """Start at the user's own frequencies: weight proportional to the count, the newest events nearly silent."""
        names = list(self.spec.token)
        weights = [cast(nn.Embedding, table).weight for table in self.tables]
        for weight in weights:
            nn.init.zeros_(weight)
        levels = torch.arange(self.spec.levels, dtype=torch.float32)
        count = torch.arange(COUNT, dtype=torch.float32)
        times = torch.where(count <= 4, count, 2 ** (count / 2)).clamp_min(1.0)
        with torch.no_grad():
            weights[names.index("count")].copy_(times.log()[:, None].expand(-1, len(levels)) / GAIN)
            pathway = weights[names.index("pathway")]
            pathway[2] = (FIRST_LOG_WEIGHT + 1.5 * levels) / GAIN
            pathway[1] = pathway[2] - 2.0 / GAIN

    def forward(self, context: ContextBatch) -> Tensor:
        """w [B, S, T], float32."""
        log_weight_BST = sum(table(context.feature_BSC[..., c]) for c, table in enumerate(self.tables))
        present_BS = context.mask_BS & (context.code_BST[..., 0] >= 0)
        weight_BST = torch.exp((GAIN * log_weight_BST).float().clamp(max=MAX_LOG_WEIGHT))
        return weight_BST * present_BS[..., None]


def prior_logits(
    code_BST: Tensor, weight_BST: Tensor, level: int, path_BQt: Tensor, size: int, seen_BQS: Tensor | None = None
) -> Tensor:
    """What the history adds to the logits of `level` after the codes `path_BQt` [B, Q, level]: [B, Q, V].

    `seen_BQS` (bool) leaves tokens out that a query may not see.
    """
    B, Q = path_BQt.shape[:2]
    vote_BQS = weight_BST[:, None, :, level].expand(B, Q, -1)
    for earlier in range(level):
        vote_BQS = vote_BQS * (code_BST[:, None, :, earlier] == path_BQt[:, :, None, earlier])
    if seen_BQS is not None:
        vote_BQS = vote_BQS * seen_BQS
    code_BQS = code_BST[:, None, :, level].clamp_min(0).expand_as(vote_BQS)
    votes_BQV = torch.zeros(B, Q, size, device=vote_BQS.device).scatter_add(2, code_BQS, vote_BQS)
    return torch.log1p(votes_BQV)
