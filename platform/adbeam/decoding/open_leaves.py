"""An allow mask against the trie, looked up only where a search comes by.

Items are stored in the order of their leaves, so what lies below a prefix is one run of them: asking whether it has an
allowed one reads a few bytes of the mask. The search asks it of the best candidates only (BatchConstraint.best); a mask
that allows little is read from its allowed items instead.

Shapes: N items, E entries, R rows, F fan-out.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.trie_tensors import TrieTensors

PROBES = (6, 48)
"""Leaves below a prefix that are looked at before the others, for each allowed one to be expected among them: most
prefixes show one at once."""
SPARSE = 8
"""A mask that allows fewer than one item in so many is read from its allowed items."""


class OpenLeaves:
    """Which leaves of the present trie hold an allowed live item."""

    def __init__(self, allow_N: NDArray[np.bool_], tensors: TrieTensors, place: int = 0) -> None:
        """Items beyond the mask are newer than it, and not allowed. `place` tells the masks of one batch apart."""
        self.tensors, self._trie = tensors, tensors.trie
        size = len(self._trie.leaf_N)
        self._allow_N = allow_N[:size]
        if len(allow_N) < size:
            self._allow_N = tensors.scratch(2 * place, size)
            self._allow_N[: len(allow_N)], self._allow_N[len(allow_N) :] = allow_N, False
        # Of a leaf only its first item is looked up, so that one answers for all items of the leaf.
        first_N = tensors.scratch(2 * place + 1, size)
        np.copyto(first_N, self._allow_N)
        first_N[self._trie.beside.gone()] = False
        self._opened = self._opened_beside()
        base = self._trie.levels[-1].base
        first_N[self._trie.item_E[self._opened[self._opened < base]]] = True
        self._first_N = torch.from_numpy(first_N).to(tensors.device)
        self.share = np.count_nonzero(self._allow_N) / max(1, len(self._allow_N))
        """Of the items that are allowed."""
        self._probes = tuple(int(probe / max(self.share, 1e-3)) + 1 for probe in PROBES)

    @property
    def is_sparse(self) -> bool:
        """Whether `open_children` is cheap, since few items are allowed."""
        return bool(self.share * SPARSE < 1)

    def _opened_beside(self) -> NDArray[np.int64]:
        """Leaves, in order, for each allowed live item that is not the first that the build put on its leaf."""
        item, leaf = self._trie.beside.items_and_leaves()
        return np.sort(leaf[self._allow_N[item] & (self._trie.leaf_N[item] == leaf)])

    @cached_property
    def _late(self) -> list[tuple[Tensor, Tensor]]:
        """Per level, in order, the entries with open leaves below them that are not of the build, and how many there
        are; of the last level the leaves' first places. Empty where there are none."""
        trie, last = self._trie, self._trie.levels[-1]
        leaf, _ = np.unique(self._opened[self._opened >= last.base], return_counts=True)
        if not len(leaf):
            return []
        entry, count = last.present(leaf), np.ones(len(leaf), np.int64)
        late = [(leaf, count)]
        for t in range(trie.depth - 1, 0, -1):
            entry, place = np.unique(trie.parents(t, entry), return_inverse=True)
            count = np.bincount(place, weights=count).astype(np.int64)
            late.insert(0, (entry.astype(np.int64), count))
        device = self.tensors.device
        return [(torch.from_numpy(entry).to(device), torch.from_numpy(count).to(device)) for entry, count in late]

    def _late_below(self, level: int, entry: Tensor) -> Tensor | int:
        """How many open leaves that are not of the build lie below entries [E] of `level`."""
        if not self._late:
            return 0
        entry_n, count_n = self._late[level]
        place = torch.searchsorted(entry_n, entry).clamp_max_(len(entry_n) - 1)
        return count_n[place].masked_fill_(entry_n[place] != entry, 0)

    @cached_property
    def _allowed_leaves(self) -> NDArray[np.int64]:
        """In order, the leaves of the build that hold an allowed live item."""
        leaf = self._trie.leaf_N[np.flatnonzero(self._allow_N)]
        leaf = np.sort(leaf[(leaf >= 0) & (leaf < self._trie.levels[-1].base)])
        return leaf[np.diff(leaf, prepend=-1) > 0].astype(np.int64)

    def open_first(self) -> Tensor:
        """bool [V], which first codes have an open leaf below them."""
        every = torch.arange(self.tensors.used(0), device=self.tensors.device)
        if not self.is_sparse or self._trie.depth == 1:
            return self.are_open(0, every)
        return self.open_leaves(0, every) > 0

    def are_open(self, level: int, entry: Tensor) -> Tensor:
        """bool, whether entries [E] of `level` have an open leaf below them."""
        if level == self._trie.depth - 1:
            return self.open_leaves(level, entry) > 0
        low, high = self.tensors.base_leaves(level, entry)
        open_ = torch.zeros_like(entry, dtype=torch.bool) | (self._late_below(level, entry) > 0)
        for probe in (*self._probes, int((high - low).max()) if len(low) else 0):
            left = (~open_ & (low < high)).nonzero()[:, 0]
            if not len(left):
                break
            upto = torch.minimum(high[left], low[left] + probe)
            open_[left] = self._count(low[left], upto) > 0
            low[left] = upto
        return open_

    def open_children(self, level: int, entry_R: Tensor, start_R: Tensor, length_R: Tensor, fan_out: int) -> Tensor:
        """bool [R, F], which of the children of entries [R] have an open leaf: the `length_R` entries of `level` from
        `start_R` on."""
        place_F = torch.arange(fan_out, device=start_R.device)
        if level == self._trie.depth - 1:
            place = (place_F < length_R[:, None]).flatten().nonzero()[:, 0]
            open_RF = torch.zeros(len(start_R), fan_out, dtype=torch.bool, device=start_R.device)
            open_RF.view(-1)[place] = self.open_leaves(level, (start_R[:, None] + place_F).flatten()[place]) > 0
            return open_RF
        # Wherever a row is now: its first children are those of the build, in the order of the build.
        first_R, built_R = self.tensors.base_row(level - 1, entry_R)
        below = self._found_below if self.is_sparse else self._counted_below
        open_RF = below(level, first_R, torch.minimum(built_R, length_R), fan_out)
        if self._late:
            self._open_late(open_RF, self._late[level][0], start_R, length_R)
        return open_RF

    def _open_late(self, open_RF: Tensor, entry_n: Tensor, start_R: Tensor, length_R: Tensor) -> None:
        """Open those of `entry_n` that lie in one of the rows."""
        start_R, order_R = start_R.masked_fill(length_R == 0, -1).sort()
        row_n = torch.searchsorted(start_R, entry_n, right=True).sub_(1).clamp_min_(0)
        place_n = entry_n - start_R[row_n]
        inside = (place_n >= 0) & (place_n < length_R[order_R[row_n]])
        open_RF[order_R[row_n[inside]], place_n[inside]] = True

    def _counted_below(self, level: int, start_R: Tensor, length_R: Tensor, fan_out: int) -> Tensor:
        """The leaves of one child end where those of the next begin."""
        edge_F = torch.arange(fan_out + 1, device=start_R.device)
        leaf_RF = self.tensors.base_leaf(level, start_R[:, None] + torch.minimum(edge_F, length_R[:, None]))
        before, end_R = self._counted(leaf_RF[:, 0], leaf_RF[:, -1])
        before_RF = before.take(leaf_RF + (end_R - leaf_RF[:, -1])[:, None])
        return before_RF[:, 1:] > before_RF[:, :-1]

    def _found_below(self, level: int, start_R: Tensor, length_R: Tensor, fan_out: int) -> Tensor:
        """Each allowed leaf below the rows opens the child above it."""
        edges = (self.tensors.base_leaf(level, edge).numpy(force=True) for edge in (start_R, start_R + length_R))
        low_R, high_R = (np.searchsorted(self._allowed_leaves, edge) for edge in edges)
        row_n = np.repeat(np.arange(len(low_R)), high_R - low_R)
        place_n = np.arange(len(row_n)) + (low_R - np.cumsum(high_R - low_R) + high_R - low_R)[row_n]
        entry_n = self._allowed_leaves[place_n]
        for t in range(self._trie.depth - 1, level, -1):
            entry_n = self._trie.base_parents(t, entry_n)
        open_RF = np.zeros((len(low_R), fan_out), bool)
        open_RF[row_n, entry_n - start_R.numpy(force=True)[row_n]] = True
        return torch.from_numpy(open_RF).to(start_R.device)

    def open_leaves(self, level: int, entry: Tensor) -> Tensor:
        """int64, how many open leaves lie below entries [E] of `level` (at the last level 0 or 1)."""
        if level == self._trie.depth - 1:
            first = self.tensors.first_place(level, entry)
            base = self._trie.levels[-1].base
            item = self.tensors.item_E.index_select(0, first.clamp_max(base - 1))
            open_ = (self._first_N.index_select(0, item) & (first < base)).long()
            return open_ + self._late_below(level, first)
        return self._count(*self.tensors.base_leaves(level, entry)) + self._late_below(level, entry)

    def at_least(self, level: int, entry: Tensor, few: int, enough: int) -> Tensor:
        """int64, how many open leaves lie below open prefixes [E] of `level`; only a part of them where the first `few`
        prefixes have `enough` anyway."""
        if level < self._trie.depth - 1 and not self.is_sparse:
            low, high = self.tensors.base_leaves(level, entry[:few])
            for probe in self._probes:
                near = self._count(low, torch.minimum(high, low + probe)).clamp_min_(1)
                if int(near.sum()) >= enough:
                    return torch.cat([near, torch.ones_like(entry[few:])])
        return self.open_leaves(level, entry)

    def at_most(self, limit: NDArray[np.int64], level: int, entry: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether at most `limit` open leaves lie below entries [E] of `level`; looks no further than it must."""
        entry_E, limit_E = (torch.from_numpy(x).to(self.tensors.device) for x in (entry, limit))
        few = torch.ones(len(entry), dtype=torch.bool, device=entry_E.device)
        if level < self._trie.depth - 1:
            low, high = self.tensors.base_leaves(level, entry_E)
            few = self._count(low, torch.minimum(high, low + (4 * limit_E + 16))) <= limit_E
        left = few.nonzero()[:, 0]
        few[left] = self.open_leaves(level, entry_E[left]) <= limit_E[left]
        return few.numpy(force=True)

    def items_on(self, leaf: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many allowed live items are on leaves named by their first place."""
        count = np.searchsorted(self._opened, leaf, "right") - np.searchsorted(self._opened, leaf, "left")
        built = leaf < self._trie.levels[-1].base
        first = self._trie.item_E[leaf[built]]
        count[built] += self._allow_N[first] & (self._trie.leaf_N[first] == leaf[built])
        return count

    def _count(self, low: Tensor, high: Tensor) -> Tensor:
        """Open leaves among those from `low` to `high` (leaves of the build), for each pair."""
        if self.is_sparse:
            leaf_n = torch.from_numpy(self._allowed_leaves).to(low.device)
            return torch.searchsorted(leaf_n, high) - torch.searchsorted(leaf_n, low)
        before, end = self._counted(low, high)
        return (before[end] - before[end - (high - low)]).long()

    def _counted(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The runs of leaves side by side: (open ones before each place, int32, and where each run ends)."""
        length = high - low
        end = length.cumsum(0)
        total = int(end[-1]) if len(end) else 0
        shift = (high - end).int().repeat_interleave(length)
        item = self.tensors.item_E.index_select(0, torch.arange(total, dtype=torch.int32, device=low.device) + shift)
        before = torch.zeros(total + 1, dtype=torch.int32, device=low.device)
        torch.cumsum(self._first_N.index_select(0, item), 0, dtype=torch.int32, out=before[1:])
        return before, end
