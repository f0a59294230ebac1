"""Thinking tokens: a few learnt queries that read the intent embeddings and keep what matters (GPR 2.2, PTD).

The code path then attends to these alone: a beam reads K keys and not the whole history.

Shapes: B rows, N tokens, K thinking tokens, D width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.model.config import ModelConfig
from adbeam.model.layers import FeedForward


class Thinking(nn.Module):
    """Cross-attention of `gpr.thinking_tokens` queries, and a feed-forward net; pre-LayerNorm.

    Each prediction head thinks with tokens of its own: it follows another thread of the user's interest."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.token = nn.Parameter(torch.randn(len(config.mixture), config.gpr.thinking_tokens, config.width))
        self.norm = nn.LayerNorm(config.width)
        self.query = nn.Linear(config.width, config.width)
        self.read = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.ffn_norm = nn.LayerNorm(config.width)
        self.ffn = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, intent_BND: Tensor, mask_BN: Tensor, head_B: Tensor) -> Tensor:
        """[B, K, D]; `head_B` are the prediction heads that the rows are read for."""
        B, N, D = intent_BND.shape
        x_BKD = self.token[head_B]
        query = self.query(self.norm(x_BKD)).view(B, -1, self.heads, D // self.heads).transpose(1, 2)
        key, value = self.read(intent_BND).view(B, N, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_BN[:, None, None])
        x_BKD = x_BKD + self.dropout(self.out(mixed.transpose(1, 2).reshape(B, -1, D)))
        thought_BKD: Tensor = x_BKD + self.dropout(self.ffn(self.ffn_norm(x_BKD)))
        return thought_BKD
