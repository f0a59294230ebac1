"""Allow masks against the trie, looked up only where a search comes by; all masks of a batch at once.

Items are stored in the order of their leaves, so what lies below a prefix is one run of them. Masks that allow much are
read in those runs (dense.py), masks that allow little from their allowed items (sparse.py).

Shapes: M masks, N items, E entries, R rows, F fan-out, V first codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.layout import Group, Layout
from adbeam.decoding.trie.tensors import TrieTensors
from adbeam.decoding.trie.unbuilt_leaves import allowed


class OpenLeaves(ABC):
    """Which leaves of the present trie hold a live item that a mask allows.

    Every question names the mask that it is asked of, entry by entry, by its place among `requests`.
    """

    def __init__(self, requests: Sequence[int], allows: Sequence[NDArray[np.bool_]], tensors: TrieTensors) -> None:
        """`allows` are bool, one mask for each of `requests` (in order); items beyond a mask are not allowed."""
        self.requests, self._allows = list(requests), list(allows)
        self.tensors, self._trie = tensors, tensors.trie
        self._request_M = torch.tensor(self.requests, device=tensors.device)
        self._mask_M = torch.arange(len(self.requests), device=tensors.device)
        self._late = tensors.late_leaves().counts(allows, tensors.device)

    def inside(self, group: Group) -> tuple[Tensor, Tensor]:
        """int64, the places in a group of its requests that have a mask here, and those masks."""
        low = bisect_left(self.requests, group.first_request)
        high = bisect_left(self.requests, group.first_request + group.requests)
        return self._request_M[low:high] - group.first_request, self._mask_M[low:high]

    def of_rows(self, layout: Layout) -> tuple[Tensor, Tensor]:
        """int64, the rows of requests that have a mask here, and those masks."""
        mask_R = torch.searchsorted(self._request_M, layout.request_R).clamp_max_(len(self.requests) - 1)
        row = (self._request_M[mask_R] == layout.request_R).nonzero()[:, 0]
        return row, mask_R[row]

    def open_first(self) -> Tensor:
        """bool [M, V], which first codes have an open leaf below them."""
        used, masks = self.tensors.used(0), len(self.requests)
        every = torch.arange(used, device=self.tensors.device).repeat(masks)
        mask = torch.arange(masks, device=self.tensors.device).repeat_interleave(used)
        return self.are_open(0, every, mask).view(masks, used)

    def are_open(self, level: int, entry: Tensor, mask: Tensor) -> Tensor:
        """bool, whether entries [E] of `level` have an open leaf below them."""
        return self.open_leaves(level, entry, mask) > 0

    def open_leaves(self, level: int, entry: Tensor, mask: Tensor) -> Tensor:
        """int64, how many open leaves lie below entries [E] of `level` (at the last level 0 or 1)."""
        last = level == self._trie.depth - 1
        late = self._late_below(level, self.tensors.first_place(level, entry) if last else entry, mask)
        return self._built_below(level, entry, mask) + late

    def open_children(
        self, level: int, parent_R: Tensor, start_R: Tensor, length_R: Tensor, mask_R: Tensor, fan_out: int
    ) -> Tensor:
        """bool [R, F], which of the children of entries [R] have an open leaf: the `length_R` entries of `level` from
        `start_R` on."""
        if level == self._trie.depth - 1:
            place_F = torch.arange(fan_out, device=start_R.device)
            row, place = (place_F < length_R[:, None]).nonzero(as_tuple=True)
            open_RF = torch.zeros(len(start_R), fan_out, dtype=torch.bool, device=start_R.device)
            open_RF[row, place] = self.open_leaves(level, start_R[row] + place, mask_R[row]) > 0
            return open_RF
        # Wherever a row is now: its first children are those of the build, in the order of the build.
        first_R, built_R = self.tensors.base_row(level - 1, parent_R)
        open_RF = self._below(level, first_R, torch.minimum(built_R, length_R), mask_R, fan_out)
        if self._late:
            self._open_late(open_RF, level, start_R, length_R, mask_R)
        return open_RF

    @abstractmethod
    def at_least(self, level: int, entry_BW: Tensor, mask_B: Tensor, few: int, enough: int) -> Tensor:
        """int64 [B, W], how many open leaves lie below open prefixes of `level`; only a part of them where the first
        `few` prefixes of a request have `enough` anyway."""

    def at_most(self, limit: NDArray[np.int64], level: int, entry: NDArray[np.int64], mask: int) -> NDArray[np.bool_]:
        """Whether at most `limit` open leaves of one mask lie below entries [E] of `level`; looks no further than it
        must."""
        entry_E, limit_E = (torch.from_numpy(x).to(self.tensors.device) for x in (entry, limit))
        mask_E = torch.full_like(entry_E, mask)
        low, high = self.tensors.base_leaves(level, entry_E)
        # Most prefixes show more than `limit` within the first leaves; what is left is counted whole.
        few = self._count(low, torch.minimum(high, low + (4 * limit_E + 16)), mask_E) <= limit_E
        left = few.nonzero()[:, 0]
        few[left] = self.open_leaves(level, entry_E[left], mask_E[left]) <= limit_E[left]
        return few.numpy(force=True)

    def items_on(self, leaf: NDArray[np.int64], mask: int) -> NDArray[np.int64]:
        """How many live items that a mask allows are on leaves named by their first place."""
        allow_N = self._allows[mask]
        opened = self.tensors.late_leaves().open_items(allow_N)
        count = np.searchsorted(opened, leaf, "right") - np.searchsorted(opened, leaf, "left")
        built = leaf < self._trie.levels[-1].base
        first = self._trie.item_E[leaf[built]]
        count[built] += allowed(allow_N, first) & (self._trie.leaf_N[first] == leaf[built])
        return count

    def _built_below(self, level: int, entry: Tensor, mask: Tensor) -> Tensor:
        """How many open leaves of the build lie below entries [E] of `level`."""
        return self._count(*self.tensors.base_leaves(level, entry), mask)

    @abstractmethod
    def _count(self, low: Tensor, high: Tensor, mask: Tensor) -> Tensor:
        """Open leaves among those from `low` to `high` (leaves of the build), for each pair."""

    @abstractmethod
    def _below(self, level: int, start_R: Tensor, length_R: Tensor, mask_R: Tensor, fan_out: int) -> Tensor:
        """`open_children` of rows of the build, where they were then, above the last level."""

    def _late_below(self, level: int, entry: Tensor, mask: Tensor) -> Tensor | int:
        """How many open leaves that are not of the build lie below entries [E] of `level`."""
        if not self._late:
            return 0
        entry_u, count_Mu = self._late[level]
        place = torch.searchsorted(entry_u, entry).clamp_max_(len(entry_u) - 1)
        return count_Mu[mask, place].masked_fill_(entry_u[place] != entry, 0)

    def _open_late(self, open_RF: Tensor, level: int, start_R: Tensor, length_R: Tensor, mask_R: Tensor) -> None:
        """Open those entries in the rows below which there are such leaves."""
        entry_u, count_Mu = self._late[level]
        low_R, high_R = (torch.searchsorted(entry_u, edge_R) for edge_R in (start_R, start_R + length_R))
        row = torch.arange(len(start_R), device=start_R.device).repeat_interleave(high_R - low_R)
        if not len(row):
            return
        place = runs(low_R, high_R)
        has = count_Mu[mask_R[row], place] > 0
        row, place = row[has], place[has]
        open_RF[row, entry_u[place] - start_R[row]] = True


def runs(low: Tensor, high: Tensor) -> Tensor:
    """int64, the numbers from each `low` to its `high`, one run after the other: (3, 8), (5, 9) give 3, 4, 8."""
    length = high - low
    end = length.cumsum(0)
    total = int(end[-1]) if len(end) else 0
    return torch.arange(total, device=low.device) + (high - end).repeat_interleave(length)
