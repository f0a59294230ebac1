"""Code embeddings, which are also the output heads, and what the late injection needs (GR4AD 1.4.2).

Every parameter is read inside the forward of the module that owns it, so that ZeRO-3 has gathered it by then.
Shapes: B requests, N rows, D width, T SID levels, V codebook size, C candidate columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CodeTable(nn.Module):
    """One level's codes: `table(codes)` embeds them, `table(h, head=True)` is Out_t h (input and output tied)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, width))

    def forward(
        self, x: Tensor, head: bool = False, column_C: Tensor | None = None, temperature: float | None = None
    ) -> Tensor:
        """Embeddings [..., D] of int64 codes [...], or logits [..., V] of states [..., D].

        With `column_C` only these codes' logits [..., C] are computed; with a `temperature` they are cosines over it.
        """
        if not head:
            return F.embedding(x, self.weight)
        weight = self.weight if column_C is None else self.weight[column_C]
        if temperature is not None:
            x = F.normalize(x, dim=-1)
        return F.linear(x, unit(weight, temperature))


def unit(weight_VD: Tensor, temperature: float | None) -> Tensor:
    """Codes of length 1 / temperature, so that a product with a state of length 1 is a cosine over the temperature; as
    they are without one."""
    return weight_VD if temperature is None else F.normalize(weight_VD, dim=-1) / temperature


class LevelEmbedding(nn.Module):
    """p_t of every step (T SID levels and the eCPM step) and the BOS code that goes before the first."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(steps, width))
        self.bos = nn.Parameter(torch.empty(width))

    def forward(self) -> tuple[Tensor, Tensor]:
        """(p [T+1, D], BOS [D])."""
        return self.position, self.bos


class Fuse(nn.Module):
    """Late injection of the previous code: Fuse(m, s) = W_f [m * (W_g s); s], a gated linear map without bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width, bias=False)
        self.project = nn.Linear(2 * width, width, bias=False)

    def forward(self, trunk: Tensor, previous: Tensor) -> Tensor:
        """[..., D] of trunk states m and previous-code embeddings s, broadcast against each other (GR4AD eq 7)."""
        gated = trunk * self.gate(previous)
        fused: Tensor = self.project(torch.cat([gated, previous.expand_as(gated)], dim=-1))
        return fused
