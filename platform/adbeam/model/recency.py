"""The recency bias: how attention fades with age, one learnt number for each age and context head (not in GR4AD).

Keys come from tokens alone, so that all prefixes of a user share them; no key can say how old its event is for a
prefix. Age is therefore a term of the attention scores: 0 is the newest event that a prefix sees. The heads begin with
different slopes (ALiBi), from looking at the last event to looking at all alike.

Shapes: B requests, P prefixes of one context, S context, G context heads, Q queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.model.config import ModelConfig

AGES = 32
"""Older events count as this old."""


class RecencyBias(nn.Module):
    """One layer's bias of the attention to the context."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        heads = config.context_kv_heads
        self.weight = nn.Parameter(torch.cat([fading(heads), torch.zeros(1, heads)]))
        """[AGES + 1, G]; the last row is of tokens without an age."""

    def forward(self, age_BPS: Tensor, queries: int = 1) -> Tensor:
        """[B, G, P * queries, S]; `queries` rows in a row belong to one prefix."""
        bias_BGPS = F.embedding(age_BPS, self.weight).permute(0, 3, 1, 2)
        return bias_BGPS.repeat_interleave(queries, dim=2) if queries > 1 else bias_BGPS


def fading(heads: int) -> Tensor:
    """[AGES, heads], biases to begin with, a slope a head."""
    slope_H = 2.0 ** -(1 + torch.arange(heads) * 4 / max(1, heads - 1))
    return -torch.arange(AGES)[:, None] * slope_H


def ages(order_BS: Tensor, visible_BP: Tensor | None = None) -> Tensor:
    """int64 [B, P, S], the age of each token for each prefix (P = 1 without `visible_BP`: everything is seen).

    `order_BS` numbers the newest events from 1, oldest first; 0 marks tokens without an age (static ones, frequent
    items), which get AGES.
    """
    if visible_BP is None:
        newest_BP = order_BS.amax(dim=1, keepdim=True)
    else:
        place_S = torch.arange(order_BS.shape[1], device=order_BS.device)
        newest_BP = (order_BS[:, None] * (place_S < visible_BP[:, :, None])).amax(dim=2)
    age_BPS = (newest_BP[:, :, None] - order_BS[:, None]).clamp(0, AGES - 1)
    return age_BPS.masked_fill(order_BS[:, None] == 0, AGES)
