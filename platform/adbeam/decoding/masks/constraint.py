"""Constrained decoding: what the trie and the filters of a batch allow at each level of a search.

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

from adbeam.decoding.layout import Group, Layout
from adbeam.decoding.masks.dense import OpenMany
from adbeam.decoding.masks.filters import Closed, ItemFilter, closed_by, denied_inside
from adbeam.decoding.masks.sparse import OpenFew
from adbeam.decoding.topk import top_k
from adbeam.decoding.trie.tensors import TrieTensors
from adbeam.decoding.trie.trie import Trie, empty_row

NEVER = float("-inf")
SPARSE = 1 / 8
"""A mask that allows a smaller share of the items is read from its allowed ones."""
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
        given = [(r, *self._as_mask_and_list(f)) for r, f in enumerate(filters) if f is not None and not f.is_open]
        masks = {r: allow_N for r, allow_N, _ in given if allow_N is not None}
        share = {r: np.count_nonzero(allow_N) / max(1, len(allow_N)) for r, allow_N in masks.items()}
        few, many = [r for r in masks if share[r] < SPARSE], [r for r in masks if share[r] >= SPARSE]
        self.few = OpenFew(few, [masks[r] for r in few], self.tensors) if few else None
        self.many = OpenMany(many, [masks[r] for r in many], self.tensors, [share[r] for r in many]) if many else None
        self.denied: list[tuple[int, int]] = []
        closed: list[tuple[int, Closed]] = []
        for request, allow_N, deny in given:
            asked = None
            if allow_N is not None:
                leaves = self.few if request in few else self.many
                assert leaves is not None
                asked, deny = (leaves, leaves.requests.index(request)), denied_inside(deny, allow_N)
            if len(deny):
                closed.append((request, closed_by(deny, self.tensors, asked)))
                self.denied.append((request, len(deny)))
        self.closed = [self._joined(closed, t) for t in range(self.trie.depth)] if closed else []

    def _as_mask_and_list(self, given: ItemFilter) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64]]:
        """The filter as the search takes it: a long list goes into the mask."""
        deny, size = np.asarray(given.deny, np.int64), len(self.trie.leaf_N)
        allow_N = None if given.allow is None else given.allow[:size]
        if len(deny) <= LONG:
            return allow_N, deny
        allow_N = np.ones(size, bool) if allow_N is None else allow_N.copy()
        allow_N[deny[(deny >= 0) & (deny < len(allow_N))]] = False
        return allow_N, deny[:0]

    def first(self, logits_BV: Tensor) -> Candidates:
        """The first codes: every live one of the codebook."""
        score_BV = logits_BV.masked_fill(~self.tensors.live_mask(), NEVER)
        if self.few is not None:
            score_BV[self.few.requests] = score_BV[self.few.requests].masked_fill_(~self.few.open_first(), NEVER)
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
        if self.few is not None:
            row, mask = self.few.of_rows(layout)
            given = (entry_R[row], start_R[row], length_R[row], mask)
            absent_RF[row] |= ~self.few.open_children(level, *given, len(place_F))
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
        k, n = min(k, score_Bn.shape[1]), score_Bn.shape[1]
        share = None if self.many is None else self.many.least_share(group)
        if self.many is None or share is None:
            value_BW, place_BW = top_k(score_Bn, k)
        else:
            # A quarter more than expected, and some for small k: falling short costs a look at all candidates.
            value_BW, place_BW = top_k(score_Bn, min(n, int(k / share * 1.25) + 32))
            self._open_among(self.many, candidates, group, value_BW, place_BW, k)
            value_BW, turn_BW = value_BW.topk(k, dim=1)
            place_BW = place_BW.gather(1, turn_BW)
        row_B1 = torch.arange(group.requests, device=place_BW.device)[:, None] * group.width + group.first_row
        row_BW = row_B1 + place_BW // fan_out
        return value_BW, row_BW, candidates.entry(row_BW, place_BW % fan_out, self.tensors.used(candidates.level))

    def _open_among(
        self, many: OpenMany, candidates: Candidates, group: Group, value_BW: Tensor, place_BW: Tensor, k: int
    ) -> None:
        """Rule out what is closed among the best candidates; where that leaves a request fewer than k, its best are
        looked for among all of its candidates."""
        b_n, mask_n = many.inside(group)
        level, fan_out, ahead = candidates.level, candidates.score_RF.shape[1], value_BW.shape[1]
        first_n, place_nW, value_nW = group.first_row + b_n * group.width, place_BW[b_n], value_BW[b_n]
        row_nW = first_n[:, None] + place_nW // fan_out
        entry_nW = candidates.entry(row_nW, place_nW % fan_out, self.tensors.used(level))
        open_nW = many.are_open(level, entry_nW.flatten(), mask_n.repeat_interleave(ahead)).view(entry_nW.shape)
        open_nW &= value_nW > NEVER
        short_n = (open_nW.sum(1) < k) & (value_nW[:, -1] > NEVER)
        value_BW[b_n] = value_nW.masked_fill_(~open_nW, NEVER)
        for n in short_n.nonzero()[:, 0].tolist():
            rows = slice(int(first_n[n]), int(first_n[n]) + group.width)
            value_BW[b_n[n]], place_BW[b_n[n]] = top_k(self._masked(many, candidates, rows, mask_n[n]), ahead)

    def _masked(self, many: OpenMany, candidates: Candidates, rows: slice, mask: Tensor) -> Tensor:
        """[1, n], all candidates of one request, the closed ones ruled out."""
        score_RF = candidates.score_RF[rows]
        if candidates.level == 0:
            open_RF = many.open_first()[mask][None]
        else:
            given = (candidates.parent_R[rows], candidates.start_R[rows], candidates.length_R[rows])
            mask_R = mask.expand(len(score_RF))
            open_RF = many.open_children(candidates.level, *given, mask_R, score_RF.shape[1])
        return score_RF.masked_fill(~open_RF, NEVER).view(1, -1)

    def leaves_below(self, level: int, group: Group, entry_BW: Tensor, few: int, enough: int) -> Tensor:
        """int64 [B, W], how many open leaves lie below entries of the requests of a group; fewer where items are denied
        (an open prefix has one), or where the first `few` entries have `enough` anyway."""
        below_BW = self.tensors.live_count(level, entry_BW)
        for leaves in (self.few, self.many):
            if leaves is not None:
                b_n, mask_n = leaves.inside(group)
                below_BW[b_n] = leaves.at_least(level, entry_BW[b_n], mask_n, few, enough)
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
