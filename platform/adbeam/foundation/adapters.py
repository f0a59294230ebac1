"""How representations enter a model at the level of features (LFM4Ads 3.1, 3.2; the MLP is ours).

    linear   Linear(rep) is one more field, which meets the others
    concat   Linear(rep) stands beside what the top reads, as in the public code's concat CR_k
    mlp      MLP(rep) is one more field
    gate     fields * sigmoid(Linear(rep)), as in its gate CR_k

A representation that is missing is learnt, and never a silent zero.

Shapes: B rows, C fields, W field width, R what is told of representations: of each block its vector [E], then the
logarithm of its weight, then whether it is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adbeam.foundation.config import Adapter
from adbeam.foundation.tables import BESIDE

OPEN = 3.0
"""Bias that a gate begins with: nearly open, so that training begins with what the model would be without it."""


class RepresentationAdapter(nn.Module):
    """Blocks of representations of widths `blocks`, into a model of `fields` fields of `width`."""

    def __init__(self, kind: Adapter, blocks: Sequence[int], fields: int, width: int) -> None:
        super().__init__()
        self.kind, self.blocks = kind, tuple(blocks)
        self.missing = nn.ParameterList(nn.Parameter(0.05 * torch.randn(size)) for size in blocks)
        size = sum(blocks) + BESIDE * len(self.blocks)
        self.out = fields * width if kind == "gate" else width
        hidden: list[nn.Module] = [nn.Linear(size, 4 * width), nn.ReLU()] if kind == "mlp" else []
        self.project = nn.Sequential(*hidden, nn.Linear(4 * width if hidden else size, self.out))
        if kind == "gate":
            last = self.project[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.constant_(last.bias, OPEN)

    @property
    def added_fields(self) -> int:
        """Fields that the model has more."""
        return int(self.kind in ("linear", "mlp"))

    @property
    def added_width(self) -> int:
        """How much wider what the top reads becomes, without the added fields."""
        return self.out if self.kind == "concat" else 0

    def forward(self, fields_BCW: Tensor, told_BR: Tensor) -> tuple[Tensor, Tensor]:
        """(the fields as the model reads them [B, C', W], what stands beside them for the top [B, X])."""
        said = self.project(self._filled(told_BR))
        beside = said[:, :0]
        if self.kind == "gate":
            return fields_BCW * torch.sigmoid(said).view_as(fields_BCW), beside
        if self.kind == "concat":
            return fields_BCW, said
        return torch.cat([fields_BCW, said[:, None]], 1), beside

    def _filled(self, told_BR: Tensor) -> Tensor:
        """With the learnt vector of a block in the place of those that are missing."""
        parts, first = [], 0
        for size, missing in zip(self.blocks, self.missing, strict=True):
            end = first + size
            known_B1 = told_BR[:, end + 1 : end + 2]
            parts += [torch.where(known_B1 > 0, told_BR[:, first:end], missing), told_BR[:, end : end + BESIDE]]
            first = end + BESIDE
        return torch.cat(parts, 1)
