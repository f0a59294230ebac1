"""A prior over codes from what converts lately: trending ads vote, the more so the nearer they are to the user.

Not part of GR4AD. Weights learn what users like; which of it is on offer this week changes faster than any training.
Every trending ad votes for its own codes (model/priors/votes.py) with a weight that its shares of the conversions of
the last day, three days and week give, and how many of the user's history tokens share its first one, two, ... codes:

    w_t(ad) = exp(sum of one learned number for each share bucket and for each match bucket)

Shapes: B requests, N trending ads, S context, T SID levels.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from adbeam.features.batch import ContextBatch
from adbeam.features.spec import MATCH, SHARE, FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.model.priors.votes import GAIN, Votes, weight_of

FIRST_EXPONENT = 0.5
"""At the start a vote is the geometric mean of the shares, to this power."""


class TrendPrior(nn.Module):
    """Votes of the trending ads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.spec = FeatureSpec.of(config)
        self.shares = nn.ModuleList(nn.Embedding(size, config.levels) for size in self.spec.trend.values())
        self.matches = nn.ModuleList(nn.Embedding(MATCH, config.levels) for _ in range(config.levels))
        self.initialise()

    def initialise(self) -> None:
        """Start with trends alone: the square root of the share, whoever the user is."""
        bucket = torch.arange(SHARE, dtype=torch.float32)
        with torch.no_grad():
            for table in self.shares:
                rise = FIRST_EXPONENT / len(self.shares) * 0.5 * math.log(2) * bucket
                cast(nn.Embedding, table).weight.copy_(rise[:, None].expand(-1, self.spec.levels) / GAIN)
            for table in self.matches:
                nn.init.zeros_(cast(nn.Embedding, table).weight)

    def forward(self, context: ContextBatch) -> Votes:
        """Votes of N ads; raises ValueError where the batch carries no trends."""
        if context.trend_code_BNT is None or context.trend_feature_BNC is None:
            raise ValueError("a model with trending_length needs contexts that carry trending ads")
        code_BNT, present_BN = context.trend_code_BNT, context.trend_code_BNT[..., 0] >= 0
        log_weight_BNT = sum(table(context.trend_feature_BNC[..., c]) for c, table in enumerate(self.shares))
        under_BNS = (context.code_BST[:, None, :, 0] >= 0).expand(-1, code_BNT.shape[1], -1)
        for level, table in enumerate(self.matches):
            under_BNS = under_BNS & (context.code_BST[:, None, :, level] == code_BNT[:, :, None, level])
            log_weight_BNT = log_weight_BNT + table(match_bucket(under_BNS.sum(-1)))
        return Votes(code_BNT, weight_of(log_weight_BNT, present_BN), of_history=False)


def match_bucket(count: Tensor) -> Tensor:
    """int64: 0, 1, 2, 3, 4 exactly, then one bucket a factor of 2."""
    doubled = torch.floor(torch.log2(count.clamp_min(1).float())).long() + 2
    return torch.where(count <= 4, count, doubled).clamp_max(MATCH - 1)
