"""Layers over the newest events before they become keys and values (not in GR4AD): a token then knows what came before
it, as in SASRec.

Each event sees itself and earlier ones only, so one pass still serves every prefix of a user's history.

Shapes: B requests, S newest events (oldest first), D width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.model.config import ModelConfig
from adbeam.model.layers import FeedForward
from adbeam.model.recency import AGES, fading


class HistoryLayers(nn.Module):
    """`config.history_layers` causal layers, pre-LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(HistoryLayer(config) for _ in range(config.history_layers))

    def forward(self, x_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """Same shape as x. `mask_BS` are the places that hold an event."""
        S = x_BSD.shape[1]
        place_S = torch.arange(S, device=x_BSD.device)
        distance_SS = place_S[:, None] - place_S
        # A place sees itself even where it is empty: no row of scores may be empty.
        seen_BSS = (mask_BS[:, None] & (distance_SS > 0)) | (distance_SS == 0)
        distance_SS = distance_SS.clamp(0, AGES - 1)
        for layer in self.layers:
            x_BSD = layer(x_BSD, seen_BSS, distance_SS)
        return x_BSD


class HistoryLayer(nn.Module):
    """Causal self-attention whose scores fade with distance by a learnt bias for each head, and a feed-forward net."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.ffn_norm = nn.LayerNorm(config.width)
        self.ffn = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)
        self.distance = nn.Parameter(fading(self.heads))
        """[AGES, H], beginning as in ALiBi."""

    def forward(self, x_BSD: Tensor, seen_BSS: Tensor, distance_SS: Tensor) -> Tensor:
        """Same shape as x."""
        B, S, D = x_BSD.shape
        query, key, value = self.project(self.norm(x_BSD)).view(B, S, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias_HSS = F.embedding(distance_SS, self.distance).permute(2, 0, 1)
        bias_BHSS = bias_HSS.masked_fill(~seen_BSS[:, None], float("-inf"))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias_BHSS)
        x_BSD = x_BSD + self.dropout(self.out(mixed.transpose(1, 2).reshape(B, S, D)))
        x_BSD = x_BSD + self.dropout(self.ffn(self.ffn_norm(x_BSD)))
        return x_BSD
