"""A prior over codes from the user's own history: what was bought often, lately, or is due again.

Not part of GR4AD. In logs where people buy the same things again, most of the answer stands in the context already,
and attention needs very many samples to learn to copy it. Here every history token votes for its own next code
(model/priors/votes.py) with a weight that its features give:

    w_t(token) = exp(sum of one learned number for each feature of the token)

Shapes: B requests, S context, C token features, T SID levels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from adbeam.features.batch import ContextBatch
from adbeam.features.spec import COUNT, FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.model.priors.votes import GAIN, Votes, weight_of

FIRST_LOG_WEIGHT = 1.0
"""Of a token of the long pathway at level 0; each level below starts 1.5 higher, since fewer tokens are left there."""


class HistoryPrior(nn.Module):
    """Votes of the history tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.spec = FeatureSpec.of(config)
        self.tables = nn.ModuleList(nn.Embedding(size, config.levels) for size in self.spec.own_token.values())
        self.initialise()

    def initialise(self) -> None:
        """Start at the user's own frequencies: weight proportional to the count, the newest events nearly silent."""
        names = list(self.spec.own_token)
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

    def forward(self, context: ContextBatch) -> Votes:
        """Votes of the S places of the context."""
        log_weight_BST = sum(table(context.feature_BSC[..., c]) for c, table in enumerate(self.tables))
        present_BS = context.mask_BS & (context.code_BST[..., 0] >= 0)
        return Votes(context.code_BST, weight_of(log_weight_BST, present_BS), of_history=True)
