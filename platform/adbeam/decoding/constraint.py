"""What the trie and the filters of a batch allow at each level of a search.

Shapes: B requests, R rows, W beams of a request, F fan-out (the widest row of children among the rows), V codebook,
E entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.filters import Closed, ItemFilter, closed_by, denied_inside
from adbeam.decoding.layout import Group, Layout
from adbeam.decoding.open_leaves import OpenLeaves
from adbeam.decoding.topk import top_k
from adbeam.decoding.trie import Trie, empty_row
from adbeam.decoding.trie_tensors import TrieTensors

NEVER = float("-inf")
LONG = 1000
"""Denied items beyond which a list becomes a mask."""


@dataclass(frozen=True)
class Candidates:
    """The children of all rows: scores [R, F], minus infinity where there is none, where each row begins, how many
    there are, and below which entry (nothing at the first level)."""

    score_RF: Tensor
    start_R: Tensor
    length_R: Tensor
    parent_R: Tensor
    level: int

    def entry(self, row: Tensor, place: Tensor, used: int) -> Tensor:
        """Entries of the level at places of rows; one of the `used` there where the place is empty."""
        return (self.start_R[row] + place).clamp_max_(used - 1)


class Constraint:
    """A trie ready to be searched on one device. One search at a time."""

    def __init__(self, trie: Trie, device: torch.device | str) -> None:
        trie.check()
        self.trie = trie
        self.tensors = TrieTensors(trie, device)

    def batch(self, filters: Sequence[ItemFilter | None]) -> BatchConstraint:
        """The constraint of a batch, after the updates that are queued. Call it inside `trie.searching()`."""
        self.tensors.refresh()
        return BatchConstraint(self, filters)


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
        self.denied: list[tuple[int, int]] = []
        closed: list[tuple[int, Closed]] = []
        for request, given in enumerate(filters):
            if given is None or given.is_open:
                continue
            allow_N, deny = self._as_mask_and_list(given)
            leaves = None
            if allow_N is not None:
                leaves = OpenLeaves(allow_N, self.tensors, len(self.open))
                self.open.append((request, leaves))
                deny = denied_inside(deny, allow_N)
            if len(deny):
                closed.append((request, closed_by(deny, leaves, self.tensors)))
                self.denied.append((request, len(deny)))
        self.closed = [self._joined(closed, t) for t in range(self.trie.depth)] if closed else []

    def _as_mask_and_list(self, given: ItemFilter) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64]]:
        """The filter as the search takes it: a long list goes into the mask."""
        deny = np.asarray(given.deny, np.int64)
        if len(deny) <= LONG:
            return given.allow, deny
        allow_N = np.ones(len(self.trie.leaf_N), bool) if given.allow is None else given.allow.copy()
        allow_N[deny[(deny >= 0) & (deny < len(allow_N))]] = False
        return allow_N, deny[:0]

    def first(self, logits_BV: Tensor) -> Candidates:
        """The first codes: every live one of the codebook."""
        score_BV = logits_BV.masked_fill(~self.tensors.live_mask(), NEVER)
        for request, leaves in self.open:
            if leaves.is_sparse:
                score_BV[request].masked_fill_(~leaves.open_first(), NEVER)
        if self.closed:
            score_BV[self.closed[0].request, self.closed[0].entry] = NEVER
        start_B = torch.zeros(len(score_BV), dtype=torch.long, device=score_BV.device)
        return Candidates(score_BV, start_B, torch.full_like(start_B, score_BV.shape[1]), start_B, 0)

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
            if leaves.is_sparse:
                rows = layout.rows_of(request)
                given = (entry_R[rows], start_R[rows], length_R[rows])
                absent_RF[rows] |= ~leaves.open_children(level, *given, len(place_F))
        score_RF.masked_fill_(absent_RF, NEVER)
        if self.closed:
            # A row that only fills its group may stand at the place of a live one: it must not be found in its stead.
            key_R = layout.request_R * self.tensors.used(level - 1) + entry_R
            self._close(level, score_RF, key_R.masked_fill(~alive_R, -1), start_R)
        return Candidates(score_RF, start_R, length_R, entry_R, level)

    def best(self, candidates: Candidates, group: Group, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """(scores, rows, entries), each [B, W]: the k best children of each request of a group, fewer if there are
        fewer. A mask that allows much is asked about the best candidates alone, in its share of them more than k."""
        score_Bn, fan_out = group.view(candidates.score_RF).flatten(1), candidates.score_RF.shape[1]
        dense = [leaves for request, leaves in self.open if request in group and not leaves.is_sparse]
        k, n = min(k, score_Bn.shape[1]), score_Bn.shape[1]
        ahead = min(n, int(k / min(leaves.share for leaves in dense) * 1.25) + 32) if dense else k
        value_BW, place_BW = top_k(score_Bn, ahead)
        if dense:
            value_BW, place_BW = self._open_among(candidates, group, value_BW, place_BW, k)
        row_B1 = torch.arange(group.requests, device=place_BW.device)[:, None] * group.width + group.first_row
        row_BW = row_B1 + place_BW // fan_out
        return value_BW, row_BW, candidates.entry(row_BW, place_BW % fan_out, self.tensors.used(candidates.level))

    def _open_among(
        self, candidates: Candidates, group: Group, value_BW: Tensor, place_BW: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """The k best open ones among the best candidates of each request; among all where those do not suffice."""
        fan_out, used = candidates.score_RF.shape[1], self.tensors.used(candidates.level)
        ahead = value_BW.shape[1]
        for request, leaves in self.open:
            if request not in group or leaves.is_sparse:
                continue
            b, first_row = (
                request - group.first_request,
                group.first_row + (request - group.first_request) * group.width,
            )
            entry_W = candidates.entry(first_row + place_BW[b] // fan_out, place_BW[b] % fan_out, used)
            open_W = leaves.are_open(candidates.level, entry_W) & (value_BW[b] > NEVER)
            if int(open_W.sum()) < k and float(value_BW[b, -1]) > NEVER:
                score_1n = self._masked(candidates, leaves, slice(first_row, first_row + group.width))
                value_BW[b], place_BW[b] = top_k(score_1n, ahead)
            else:
                value_BW[b].masked_fill_(~open_W, NEVER)
        value_BW, turn_BW = value_BW.topk(k, dim=1)
        return value_BW, place_BW.gather(1, turn_BW)

    def _masked(self, candidates: Candidates, leaves: OpenLeaves, rows: slice) -> Tensor:
        """[1, n], all candidates of one request, the closed ones ruled out."""
        score_RF = candidates.score_RF[rows]
        if candidates.level == 0:
            open_RF = leaves.open_first()[None]
        else:
            given = (candidates.parent_R[rows], candidates.start_R[rows], candidates.length_R[rows])
            open_RF = leaves.open_children(candidates.level, *given, score_RF.shape[1])
        return score_RF.masked_fill(~open_RF, NEVER).view(1, -1)

    def leaves_below(self, level: int, group: Group, entry_BW: Tensor, few: int, enough: int) -> Tensor:
        """int64 [B, W], how many open leaves lie below entries of the requests of a group; fewer where items are denied
        (an open prefix has one), or where the first `few` entries have `enough` anyway."""
        below_BW = self.tensors.live_count(level, entry_BW)
        for request, leaves in self.open:
            if request in group:
                row = request - group.first_request
                below_BW[row] = leaves.at_least(level, entry_BW[row], few, enough)
        for request, count in self.denied:
            if request in group:
                below_BW[request - group.first_request].sub_(count).clamp_min_(1)
        return below_BW

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
