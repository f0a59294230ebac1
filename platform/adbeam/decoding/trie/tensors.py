"""The trie as torch tensors, kept in step with its updates: views on the CPU, a copy on another device.

Shapes: R rows (beams of all requests), F fan-out (widest row of children), E entries of one level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.trie.trie import Trie
from adbeam.decoding.trie.unbuilt_leaves import LateLeaves
from adbeam.decoding.trie.updates import LEAF_N


class TrieTensors:
    """What a search reads of a trie, on one device. `copied` forces a copy on the CPU too."""

    def __init__(self, trie: Trie, device: torch.device | str = "cpu", copied: bool = False) -> None:
        self.trie, self.device = trie, torch.device(device)
        self.copied = copied or self.device.type != "cpu"
        self._held: dict[tuple[int, str], Tensor] = {}
        self._scratch = np.empty(0, bool)
        self._late: LateLeaves | None = None
        self._seen = -1
        self._applied = 0
        self.refresh()

    def refresh(self) -> None:
        """Catch up with the updates that the trie has applied."""
        if self._seen == self.trie.version:
            return
        self._late = None
        if self._applied < self.trie.forgotten:
            self._held.clear()
        arrays: dict[tuple[int, str], Any] = {
            (LEAF_N, "leaf_N"): self.trie.leaf_N,
            (LEAF_N, "item_E"): self.trie.item_E,
        }
        for t, level in enumerate(self.trie.levels):
            arrays |= {(t, name): array for name, array in level.arrays().items()}
        for place, array in arrays.items():
            held = self._held.get(place)
            if not self.copied:
                self._held[place] = torch.from_numpy(array)
            elif held is None or held.shape != array.shape or held.dtype != torch.from_numpy(array).dtype:
                self._held[place] = torch.tensor(array, device=self.device)
        if self.copied:
            for level_, name, low, high in self.trie.touched[max(0, self._applied - self.trie.forgotten) :]:
                piece = np.ascontiguousarray(arrays[level_, name][low:high])
                self._held[level_, name][low:high] = torch.from_numpy(piece).to(self.device)
        self._applied, self._seen = self.trie.forgotten + len(self.trie.touched), self.trie.version

    def scratch(self, size: int) -> NDArray[np.bool_]:
        """bool [size], the same memory for every batch."""
        if len(self._scratch) < size:
            self._scratch = np.empty(size, bool)
        return self._scratch[:size]

    def late_leaves(self) -> LateLeaves:
        """What the present version of the trie has beside the build, in the order of its leaves."""
        if self._late is None:
            self._late = LateLeaves(self.trie)
        return self._late

    def live_mask(self) -> Tensor:
        """bool [V], which first codes lead to a live ad."""
        return self._held[0, "live"] > 0

    def rows(self, level: int, entry_R: Tensor) -> tuple[Tensor, Tensor]:
        """(start, length) int64 of the children of entries of `level`."""
        start_R = self._held[level, "start"][entry_R].long()
        length_R = self._held[level, "length"][entry_R].long()
        if self.trie.levels[level].row_room:
            moved_R = length_R < 0
            place_R = (-1 - length_R).clamp_min(0)
            start_R = torch.where(moved_R, self._held[level, "row_start"][place_R], start_R)
            length_R = torch.where(moved_R, self._held[level, "row_length"][place_R], length_R)
        return start_R, length_R

    def codes(self, level: int, entry: Tensor) -> Tensor:
        """int64 codes of entries of `level` (of level 0: the entry itself)."""
        if level == 0:
            return entry
        return self._held[level, "code"].index_select(0, entry.flatten()).long().view(entry.shape)

    def live(self, level: int, entry: Tensor) -> Tensor:
        """bool, whether entries of `level` lead to a live ad."""
        return self._held[level, "live"].index_select(0, entry.flatten()).view(entry.shape) > 0

    def live_count(self, level: int, entry: Tensor) -> Tensor:
        """int64, how many live leaves lie below entries of `level`."""
        return self._held[level, "live"].index_select(0, entry.flatten()).long().view(entry.shape)

    def has_dead(self, level: int) -> bool:
        """Whether a row may list entries that are no longer live (only updates leave such)."""
        return self.trie.version > 0

    def used(self, level: int) -> int:
        """How many entries of `level` are in force."""
        return self.trie.levels[level].used

    def base_row(self, level: int, entry_R: Tensor) -> tuple[Tensor, Tensor]:
        """(start, length) int64 of the children that the build gave entries of `level`, where they were then."""
        here, below = self.trie.levels[level], self.trie.levels[level + 1]
        first_R = self.first_place(level, entry_R)
        edges = (first_R.clamp_max(here.base - 1), (first_R + 1).clamp_max(here.base - 1))
        low_R, high_R = (self._held[level, "start"].index_select(0, edge).long() for edge in edges)
        high_R = torch.where(first_R + 1 < here.base, high_R, below.base).clamp_max_(below.base)
        return low_R.clamp_max_(below.base), (high_R - low_R).masked_fill_(first_R >= here.base, 0)

    def first_place(self, level: int, entry: Tensor) -> Tensor:
        """int64, where entries of `level` were when they came: a moved one is named by that."""
        here = self.trie.levels[level]
        if here.used == here.base:
            return entry
        first_T = torch.from_numpy(here.first_places()).to(entry.device)
        return torch.where(entry < here.base, entry, first_T[(entry - here.base).clamp_min(0)])

    def base_leaves(self, level: int, entry: Tensor) -> tuple[Tensor, Tensor]:
        """(first, one beyond the last) int64 of the leaves of the build below entries of `level`."""
        first = self.first_place(level, entry)
        base = self.trie.levels[level].base
        low, high = (self.base_leaf(level, edge.clamp_max(base)) for edge in (first, first + 1))
        return low, high

    def base_leaf(self, level: int, entry: Tensor) -> Tensor:
        """The first base leaf below base entries of `level`; for entry = base count, the number of base leaves."""
        for t in range(level, self.trie.depth - 1):
            here, below = self.trie.levels[t], self.trie.levels[t + 1]
            start = self._held[t, "start"].index_select(0, entry.flatten().clamp_max(here.base - 1)).view(entry.shape)
            if t == 0:
                start = start.clamp_max_(below.base)
            if entry.numel() and int(entry.max()) >= here.base:
                start = start.masked_fill_(entry >= here.base, below.base)
            entry = start.long()
        return entry

    @property
    def item_E(self) -> Tensor:
        """int32 [E], the first item that the build put on each leaf."""
        return self._held[LEAF_N, "item_E"]

    @property
    def leaf_N(self) -> Tensor:
        """int32 [N], leaf of each item where it was first placed, -1 where not live."""
        return self._held[LEAF_N, "leaf_N"]
