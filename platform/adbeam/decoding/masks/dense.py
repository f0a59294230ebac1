"""Allow masks that leave much: a prefix is open if a run of leaves shows an allowed item, and most show one at once.

Shapes: M masks, N items, R rows, F fan-out, B requests, W beams of a request.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.layout import Group
from adbeam.decoding.masks.base import OpenLeaves, runs
from adbeam.decoding.trie.tensors import TrieTensors
from adbeam.decoding.trie.unbuilt_leaves import allowed

PROBES = (6, 48)
"""Leaves below a prefix that are looked at before the others, for each allowed one to be expected among them."""


class OpenMany(OpenLeaves):
    """All masks in one array. Of a leaf only its first item is looked up, so that one answers for all of the leaf."""

    def __init__(
        self,
        requests: Sequence[int],
        allows: Sequence[NDArray[np.bool_]],
        tensors: TrieTensors,
        shares: Sequence[float],
    ) -> None:
        """`shares` are of the items that each mask allows."""
        super().__init__(requests, allows, tensors)
        gone, late = self._trie.beside.gone(), tensors.late_leaves()
        self._size = len(self._trie.leaf_N)
        first_MN = tensors.scratch(len(allows) * self._size).reshape(len(allows), self._size)
        for first_N, allow_N in zip(first_MN, allows, strict=True):
            first_N[: len(allow_N)], first_N[len(allow_N) :] = allow_N, False
            first_N[gone] = False
            first_N[late.built_first_n[allowed(allow_N, late.built_item_n)]] = True
        self._first = torch.from_numpy(first_MN).flatten().to(tensors.device)
        self._shares = list(shares)
        probes = [[int(probe / max(share, 1e-3)) + 1 for share in shares] for probe in PROBES]
        self._probes_M = [torch.tensor(probe, device=tensors.device) for probe in probes]

    def least_share(self, group: Group) -> float | None:
        """The smallest share of a group's masks; None where none of its requests has a mask here."""
        return min((share for share, r in zip(self._shares, self.requests, strict=True) if r in group), default=None)

    def are_open(self, level: int, entry: Tensor, mask: Tensor) -> Tensor:
        """bool, whether entries [E] of `level` have an open leaf below them; looks no further than it must."""
        if level == self._trie.depth - 1:
            return super().are_open(level, entry, mask)
        low, high = self.tensors.base_leaves(level, entry)
        open_ = torch.zeros_like(entry, dtype=torch.bool) | (self._late_below(level, entry, mask) > 0)
        for probe_M in (*self._probes_M, None):
            left = (~open_ & (low < high)).nonzero()[:, 0]
            if not len(left):
                break
            upto = high[left]
            if probe_M is not None:
                upto = torch.minimum(upto, low[left] + probe_M[mask[left]])
            open_[left] = self._count(low[left], upto, mask[left]) > 0
            low[left] = upto
        return open_

    def at_least(self, level: int, entry_BW: Tensor, mask_B: Tensor, few: int, enough: int) -> Tensor:
        """int64 [B, W], how many open leaves lie below open prefixes of `level`; only a part of them where the first
        `few` prefixes of a request have `enough` anyway."""
        below_BW, W = torch.ones_like(entry_BW), entry_BW.shape[1]
        left = torch.arange(len(entry_BW), device=entry_BW.device)
        if level < self._trie.depth - 1:
            low, high = self.tensors.base_leaves(level, entry_BW[:, :few])
            for probe_M in self._probes_M:
                upto = torch.minimum(high[left], low[left] + probe_M[mask_B[left], None])
                mask = mask_B[left].repeat_interleave(upto.shape[1])
                near = self._count(low[left].flatten(), upto.flatten(), mask).view(upto.shape).clamp_min_(1)
                below_BW[left, :few] = near
                left = left[near.sum(1) < enough]
                if not len(left):
                    return below_BW
        mask = mask_B[left].repeat_interleave(W)
        below_BW[left] = self.open_leaves(level, entry_BW[left].flatten(), mask).view(-1, W)
        return below_BW

    def _below(self, level: int, start_R: Tensor, length_R: Tensor, mask_R: Tensor, fan_out: int) -> Tensor:
        """The leaves of one child end where those of the next begin."""
        edge_F = torch.arange(fan_out + 1, device=start_R.device)
        leaf_RF = self.tensors.base_leaf(level, start_R[:, None] + torch.minimum(edge_F, length_R[:, None]))
        before, end_R = self._counted(leaf_RF[:, 0], leaf_RF[:, -1], mask_R)
        before_RF = before.take(leaf_RF + (end_R - leaf_RF[:, -1])[:, None])
        return before_RF[:, 1:] > before_RF[:, :-1]

    def _built_below(self, level: int, entry: Tensor, mask: Tensor) -> Tensor:
        if level < self._trie.depth - 1:
            return super()._built_below(level, entry, mask)
        first, base = self.tensors.first_place(level, entry), self._trie.levels[-1].base
        item = self.tensors.item_E.index_select(0, first.clamp_max(base - 1))
        return (self._first.index_select(0, item + mask * self._size) & (first < base)).long()

    def _count(self, low: Tensor, high: Tensor, mask: Tensor) -> Tensor:
        before, end = self._counted(low, high, mask)
        return (before[end] - before[end - (high - low)]).long()

    def _counted(self, low: Tensor, high: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The runs of leaves side by side: (open ones before each place, int32, and where each run ends)."""
        length = high - low
        item = self.tensors.item_E.index_select(0, runs(low, high))
        if len(self.requests) > 1:
            item = item + (mask * self._size).repeat_interleave(length)
        before = torch.zeros(len(item) + 1, dtype=torch.int32, device=low.device)
        torch.cumsum(self._first.index_select(0, item), 0, dtype=torch.int32, out=before[1:])
        return before, length.cumsum(0)
