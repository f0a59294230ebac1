"""HSD blocks: hybrid attention with a gate, LayerNorm and feed-forward nets of each token type (GPR eq 1-2).

Shapes: B requests, N tokens, D width, H heads, K types.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.model.config import ModelConfig
from adbeam.model.hsd.tokens import ADVERT, TYPES, TypedTokens, TypeSlices
from adbeam.model.layers import FeedForward


def hybrid_mask(type_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """bool [B, N, N], whether token i sees token j (GPR eq 2): j <= i, or neither of them is an ad.

    Places without a token are seen by nobody but themselves: no row of scores may be empty.
    """
    N = type_BN.shape[1]
    prefix_BN = type_BN != ADVERT
    causal_NN = torch.ones(N, N, dtype=torch.bool, device=type_BN.device).tril()
    seen_BNN = (causal_NN | (prefix_BN[:, :, None] & prefix_BN[:, None])) & mask_BN[:, None]
    return seen_BNN | torch.eye(N, dtype=torch.bool, device=type_BN.device)


class TokenAwareNorm(nn.Module):
    """LayerNorm with a gain and a bias for each type."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(TYPES, width))
        self.bias = nn.Parameter(torch.zeros(TYPES, width))

    def forward(self, x_BND: Tensor, type_BN: Tensor) -> Tensor:
        """Same shape as x."""
        normal = F.layer_norm(x_BND, x_BND.shape[-1:])
        return normal * F.embedding(type_BN, self.gain) + F.embedding(type_BN, self.bias)


class HybridAttention(nn.Module):
    """Softmax(Q K' / sqrt(d) + M) V * U, U through SiLU as in HSTU, and a last projection (GPR eq 1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.project = nn.Linear(config.width, 4 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x_BND: Tensor, seen_BNN: Tensor) -> Tensor:
        """Same shape as x."""
        B, N, D = x_BND.shape
        query, key, value, gate = self.project(x_BND).view(B, N, 4, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen_BNN[:, None]) * F.silu(gate)
        out_BND: Tensor = self.out(mixed.transpose(1, 2).reshape(B, N, D))
        return out_BND


class HsdBlock(nn.Module):
    """One block, pre-LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = TokenAwareNorm(config.width)
        self.attention = HybridAttention(config)
        self.ffn_norm = TokenAwareNorm(config.width)
        self.ffn = nn.ModuleList(FeedForward(config) for _ in range(TYPES))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BND: Tensor, type_BN: Tensor, seen_BNN: Tensor, slices: TypeSlices) -> Tensor:
        """Same shape as x."""
        x_BND = x_BND + self.dropout(self.attention(self.norm(x_BND, type_BN), seen_BNN))
        out_BND: Tensor = x_BND + self.dropout(slices.apply(self.ffn, self.ffn_norm(x_BND, type_BN)))
        return out_BND


class Hsd(nn.Module):
    """Typed tokens -> intent embeddings: a projection of each type, `gpr.hsd_layers` blocks, a last norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(TYPES))
        self.first_norm = TokenAwareNorm(config.width)
        self.blocks = nn.ModuleList(HsdBlock(config) for _ in range(config.gpr.hsd_layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: TypedTokens) -> Tensor:
        """Intent embeddings [B, N, D]; of places without a token they mean nothing."""
        slices = TypeSlices.of(tokens.type_BN, tokens.mask_BN)
        x_BND = tokens.x_BND + slices.apply(self.project, tokens.x_BND)
        x_BND = self.first_norm(x_BND, tokens.type_BN)
        seen_BNN = hybrid_mask(tokens.type_BN, tokens.mask_BN)
        for block in self.blocks:
            x_BND = block(x_BND, tokens.type_BN, seen_BNN, slices)
        intent_BND: Tensor = self.norm(x_BND)
        return intent_BND
