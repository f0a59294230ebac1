"""Decoder blocks: cross-attention to the context, causal self-attention over levels, feed-forward; pre-LayerNorm.

The order is OneRec-V2's (GR4AD 1.4.2). Keys and values of the context come ready from the context processor, so the
cross-attention has only W_q and W_o. One block serves training and search: x holds Q sequences (targets or beams) of
t steps for each request; with a cache, x holds the steps behind it.

Shapes: B requests, Q sequences of one request, t steps, D width, H heads, G context heads, S context, d head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.model.config import ModelConfig

StepCache = tuple[Tensor, Tensor]
"""Self-attention keys and values of the steps so far, each [B, Q, H, t, d]."""


class CrossAttention(nn.Module):
    """Grouped-query attention to context keys and values that all queries of a request share."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.groups, self.head_width = config.context_kv_heads, config.head_width
        self.query = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x_BQD: Tensor, key_BGSd: Tensor, value_BGSd: Tensor, bias: Tensor) -> Tensor:
        """[B, Q, D]. `bias` is added to the scores: [B, 1, 1, S], with Q in the third place where queries see
        differently, with G in the second where heads do.
        """
        B, Q, D = x_BQD.shape
        share = D // (self.groups * self.head_width)
        query = self.query(x_BQD).view(B, Q, self.groups, share, self.head_width).permute(0, 2, 3, 1, 4)
        if bias.shape[2] > 1:
            bias = bias[:, :, None].expand(B, -1, share, Q, -1).reshape(B, bias.shape[1], share * Q, -1)
        # Heads that read the same keys lie along the query axis: one attention, no copy of the keys.
        mixed = F.scaled_dot_product_attention(
            query.reshape(B, self.groups, share * Q, self.head_width), key_BGSd, value_BGSd, attn_mask=bias
        )
        mixed = mixed.view(B, self.groups, share, Q, self.head_width).permute(0, 3, 1, 2, 4)
        out_BQD: Tensor = self.out(mixed.reshape(B, Q, D))
        return out_BQD


class SelfAttention(nn.Module):
    """Causal attention over the steps of each sequence."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.project = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x_BQtD: Tensor, cache: StepCache | None) -> tuple[Tensor, StepCache]:
        """([B, Q, t, D], the cache with these steps appended)."""
        B, Q, t, D = x_BQtD.shape
        query, key, value = self.project(x_BQtD).view(B, Q, t, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        if cache is not None:
            key, value = torch.cat([cache[0], key], dim=3), torch.cat([cache[1], value], dim=3)
        # Step i of these t sees all past steps and the first i + 1 of these.
        past = key.shape[3] - t
        seen_tk = torch.ones(t, past + t, dtype=torch.bool, device=key.device).tril(past) if t > 1 else None
        mixed = F.scaled_dot_product_attention(
            query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), attn_mask=seen_tk
        )
        return self.out(mixed.transpose(1, 2).reshape(B, Q, t, D)), (key, value)


class FeedForward(nn.Module):
    """D -> multiple of D -> D with GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.ffn_multiple * config.width)
        self.out = nn.Linear(config.ffn_multiple * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        out: Tensor = self.out(F.gelu(self.up(x)))
        return out


class Block(nn.Module):
    """One decoder layer Dec^(l)(h, X)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.cross_norm = nn.LayerNorm(config.width)
        self.cross = CrossAttention(config)
        self.self_norm = nn.LayerNorm(config.width)
        self.self_attention = SelfAttention(config)
        self.ffn_norm = nn.LayerNorm(config.width)
        self.ffn = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x_BQtD: Tensor, key_BGSd: Tensor, value_BGSd: Tensor, bias: Tensor, cache: StepCache | None = None
    ) -> tuple[Tensor, StepCache]:
        """(states [B, Q, t, D], self-attention cache of these and all earlier steps)."""
        crossed = self.cross(self.cross_norm(x_BQtD).flatten(1, 2), key_BGSd, value_BGSd, bias)
        x_BQtD = x_BQtD + self.dropout(crossed.view_as(x_BQtD))
        mixed, cache = self.self_attention(self.self_norm(x_BQtD), cache)
        x_BQtD = x_BQtD + self.dropout(mixed)
        return x_BQtD + self.dropout(self.ffn(self.ffn_norm(x_BQtD))), cache
