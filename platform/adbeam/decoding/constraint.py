"""What the trie and the filters of a batch allow at each level of a search.

Shapes: B requests, R rows, F fan-out (the widest row of children among the rows), V codebook, E entries.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.filters import Closed, CompiledMask, ItemFilter, OpenLeaves, closed_by, denied_inside
from adbeam.decoding.layout import Layout
from adbeam.decoding.trie import Trie, empty_row
from adbeam.decoding.trie_tensors import TrieTensors

CACHE_BYTES = 512 << 20
"""Memory for compiled allow masks; the least recently used go first."""
NEVER = float("-inf")


@dataclass(frozen=True)
class Candidates:
    """The children of all rows: scores [R, F], minus infinity where there is none, and where each row begins."""

    score_RF: Tensor
    start_R: Tensor
    level: int


class Constraint:
    """A trie ready to be searched on one device. One search at a time."""

    def __init__(self, trie: Trie, device: torch.device | str) -> None:
        trie.check()
        self.trie = trie
        self.tensors = TrieTensors(trie, device)
        self._masks: OrderedDict[int, CompiledMask] = OrderedDict()

    def batch(self, filters: Sequence[ItemFilter | None]) -> BatchConstraint:
        """The constraint of a batch, after the updates that are queued. Call it inside `trie.searching()`."""
        self.tensors.refresh()
        return BatchConstraint(self, filters)

    def compiled(self, allow_N: NDArray[np.bool_]) -> CompiledMask:
        """The mask against the present trie, from the cache where it was seen before."""
        held = self._masks.get(id(allow_N))
        if held is None or held.version != self.trie.version:
            held = self._masks[id(allow_N)] = CompiledMask(allow_N, self.tensors)
        self._masks.move_to_end(id(allow_N))
        while len(self._masks) > 1 and sum(mask.bytes for mask in self._masks.values()) > CACHE_BYTES:
            self._masks.popitem(last=False)
        return held


@dataclass(frozen=True)
class ClosedEntries:
    """Entries of one level that are closed to one request, over all requests of a batch."""

    request: Tensor
    parent: Tensor
    entry: Tensor


class BatchConstraint:
    """The constraint of one batch; requests in the order of the search."""

    def __init__(self, constraint: Constraint, filters: Sequence[ItemFilter | None]) -> None:
        self.tensors, self.trie = constraint.tensors, constraint.trie
        self.open: list[tuple[int, OpenLeaves]] = []
        closed: list[tuple[int, Closed]] = []
        for request, given in enumerate(filters):
            if given is None or given.is_open:
                continue
            mask = None if given.allow is None else constraint.compiled(given.allow)
            if mask is not None and mask.leaves is not None:
                self.open.append((request, mask.leaves))
            found = self._closed_to(np.asarray(given.deny, np.int64), mask)
            if found:
                closed.append((request, found))
        self.closed = [self._joined(closed, t) for t in range(self.trie.depth)] if closed else []

    def _closed_to(self, deny: NDArray[np.int64], mask: CompiledMask | None) -> Closed:
        if mask is None:
            return closed_by(deny, None, self.tensors)
        deny = denied_inside(deny, mask)
        if mask.leaves is not None:
            return closed_by(deny, mask.leaves, self.tensors) if len(deny) else []
        return closed_by(np.concatenate([mask.denied, deny]), None, self.tensors) if len(deny) else mask.closed

    def first(self, logits_BV: Tensor) -> Candidates:
        """The first codes: every live one of the codebook."""
        score_BV = logits_BV.masked_fill(~self.tensors.live_mask(), NEVER)
        for request, leaves in self.open:
            entry_V = torch.arange(score_BV.shape[1], device=score_BV.device)
            score_BV[request].masked_fill_(leaves.open_leaves(0, entry_V) <= 0, NEVER)
        if self.closed:
            score_BV[self.closed[0].request, self.closed[0].entry] = NEVER
        return Candidates(score_BV, torch.zeros(len(score_BV), dtype=torch.long, device=score_BV.device), 0)

    def next(self, level: int, logits_RV: Tensor, entry_R: Tensor, alive_R: Tensor, layout: Layout) -> Candidates:
        """The codes that may follow each row; raises UserError when the catalogue has none for a live row."""
        start_R, length_R = self.tensors.rows(level - 1, entry_R)
        dead_R = alive_R & (length_R == 0)
        if bool(dead_R.any()):
            raise empty_row(self.trie, level - 1, int(entry_R[dead_R][0]))
        length_R = torch.where(alive_R, length_R, 0)
        place_F = torch.arange(max(1, int(length_R.max())), device=entry_R.device)
        absent_RF = place_F >= length_R[:, None]
        child_RF = (start_R[:, None] + place_F).clamp_max_(self.tensors.used(level) - 1)
        score_RF = logits_RV.gather(1, self.tensors.codes(level, child_RF))
        if self.tensors.has_dead(level):
            absent_RF |= ~self.tensors.live(level, child_RF)
        for request, leaves in self.open:
            rows = layout.rows_of(request)
            absent_RF[rows] |= ~leaves.open_children(level, start_R[rows], len(place_F))
        score_RF.masked_fill_(absent_RF, NEVER)
        if self.closed:
            # A row that only fills its group may stand at the place of a live one: it must not be found in its stead.
            key_R = layout.request_R * self.tensors.used(level - 1) + entry_R
            self._close(level, score_RF, key_R.masked_fill(~alive_R, -1), start_R)
        return Candidates(score_RF, start_R, level)

    def _close(self, level: int, score_RF: Tensor, key_R: Tensor, start_R: Tensor) -> None:
        """Rule out what is closed: each closed entry is looked for among the rows of its request, by its parent."""
        closed, size = self.closed[level], self.tensors.used(level - 1)
        key_R, row_R = torch.sort(key_R)
        wanted = closed.request * size + closed.parent
        place = torch.searchsorted(key_R, wanted).clamp_max_(len(key_R) - 1)
        found = key_R[place] == wanted
        row = row_R[place[found]]
        score_RF[row, closed.entry[found] - start_R[row]] = NEVER

    def _joined(self, lists: list[tuple[int, Closed]], level: int) -> ClosedEntries:
        request = np.concatenate([np.full(len(levels[level][1]), request) for request, levels in lists])
        parent = np.concatenate([levels[level][0] for _, levels in lists])
        entry = np.concatenate([levels[level][1] for _, levels in lists])
        device = self.tensors.device
        return ClosedEntries(
            *(torch.from_numpy(array.astype(np.int64)).to(device) for array in (request, parent, entry))
        )
