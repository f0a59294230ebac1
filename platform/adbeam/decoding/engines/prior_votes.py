"""Votes inside a search (model/priors/votes.py): which beam each voting token stands behind.

Two beams of a request never share a prefix, so a token stands behind at most one of them: following the tokens costs
nothing that grows with beams times tokens.

Shapes: B requests, N tokens still behind a beam, T levels, R rows, V codebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from adbeam.model.priors.votes import Votes


class BeamVotes:
    """The tokens that still vote: `row_N` is the beam of each, `kind_N` its kind of voter."""

    def __init__(self, row_N: Tensor, kind_N: Tensor, code_NT: Tensor, weight_NT: Tensor) -> None:
        self.row_N, self.kind_N, self.code_NT, self.weight_NT = row_N, kind_N, code_NT, weight_NT

    @classmethod
    def of(cls, kinds: Sequence[Votes]) -> Self | None:
        """At the first level every request has one row; None for a model without priors."""
        if not kinds:
            return None
        code_BNT = torch.cat([votes.code_BNT for votes in kinds], dim=1)
        weight_BNT = torch.cat([votes.weight_BNT for votes in kinds], dim=1)
        sizes = torch.tensor([votes.code_BNT.shape[1] for votes in kinds], device=code_BNT.device)
        kind_n = torch.arange(len(kinds), device=code_BNT.device).repeat_interleave(sizes)
        row_N, place_N = (weight_BNT[..., 0] > 0).nonzero(as_tuple=True)
        return cls(row_N, kind_n[place_N], code_BNT[row_N, place_N], weight_BNT[row_N, place_N].float())

    def follow(self, parent_R: Tensor, code_R: Tensor, level: int, size: int) -> None:
        """Move every token to the beam that took its code of `level`; drop those whose code no beam took."""
        # A row that only fills its group may have the key of a live one, which stands before it.
        key_R, order_R = (parent_R * size + code_R).sort(stable=True)
        wanted_N = self.row_N * size + self.code_NT[:, level]
        place_N = torch.searchsorted(key_R, wanted_N).clamp_max_(len(key_R) - 1)
        kept = (key_R[place_N] == wanted_N).nonzero()[:, 0]
        self.row_N = order_R[place_N[kept]]
        self.kind_N, self.code_NT, self.weight_NT = self.kind_N[kept], self.code_NT[kept], self.weight_NT[kept]

    def add_to(self, logits_RV: Tensor, level: int) -> None:
        """Add each kind's log(1 + votes) to the logits of `level`, in place."""
        cells = logits_RV.numel()
        place_N = self.kind_N * cells + self.row_N * logits_RV.shape[1] + self.code_NT[:, level]
        place, group_N = torch.unique(place_N, return_inverse=True)
        votes = torch.zeros(len(place), device=logits_RV.device).index_add_(0, group_N, self.weight_NT[:, level])
        logits_RV.view(-1).index_add_(0, place % cells, torch.log1p(votes))
