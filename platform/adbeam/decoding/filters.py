"""Per-request filters, pushed down the trie: a prefix is open if any live ad below it is allowed.

Two forms with different costs. A list of denied items (ads already seen) closes leaves, and the prefixes that thereby
die: only what it names is looked at. A mask over all items (targeting, blocked advertisers) is compiled once and kept,
so that many requests can share it; one that denies little is turned into a list.

Shapes: N items, E entries, R rows, F fan-out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.trie_tensors import TrieTensors
from adbeam.errors import UserError

Closed = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Per level, parent and place of the entries below which nothing is left."""


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """Which items (row numbers of the trie) a request may be answered with: those in `allow` and not in `deny`."""

    allow: NDArray[np.bool_] | None = None
    """bool [N]; None allows all. Give the same array to many requests and it is compiled once. Do not write to it."""
    deny: NDArray[np.int64] | Sequence[int] = field(default=())

    def __post_init__(self) -> None:
        if self.allow is not None and (self.allow.dtype != np.bool_ or self.allow.ndim != 1):
            raise UserError(
                "an allow mask is a boolean array with one value an item",
                field="filters.allow",
                value=(self.allow.dtype.name, self.allow.shape),
            )

    @property
    def is_open(self) -> bool:
        """Whether it leaves everything."""
        return self.allow is None and len(self.deny) == 0


class OpenLeaves:
    """An allow mask against one version of a trie: the open leaves, and how many of them lie before each base leaf."""

    def __init__(self, item_n: NDArray[np.int64], tensors: TrieTensors) -> None:
        """`item_n` are the allowed items."""
        self.tensors, trie = tensors, tensors.trie
        last = trie.levels[-1]
        self._leaf_n = np.take(trie.leaf_N, item_n)
        first = np.zeros(last.used + 1, np.uint8)
        first[self._leaf_n] = 1  # items that are not live have leaf -1: the spare last place
        first_E = torch.from_numpy(first).to(tensors.device)
        self.before_E = torch.zeros(last.base + 1, dtype=torch.int32, device=tensors.device)
        torch.cumsum(first_E[: last.base], 0, dtype=torch.int32, out=self.before_E[1:])
        self.extra = self._appended(np.flatnonzero(first[last.base : last.used]) + last.base)
        self.open_E = first_E[:-1].bool()
        if last.moved_to:
            was = torch.tensor(list(last.moved_to), device=tensors.device)
            value = self.open_E[was]
            self.open_E[was] = False
            self.open_E[torch.tensor(list(last.moved_to.values()), device=tensors.device)] = value
        self._counts: NDArray[np.int64] | None = None

    @property
    def bytes(self) -> int:
        """Memory of the compiled form."""
        return self._leaf_n.nbytes + self.before_E.nbytes + self.open_E.nbytes

    def _appended(self, leaf: NDArray[np.int64]) -> list[Tensor]:
        """Per level, how many open leaves that are not in the base lie below each entry; empty where there are none."""
        trie = self.tensors.trie
        if not len(leaf):
            return []
        entry = trie.levels[-1].present(leaf)
        extra: list[Tensor] = []
        for t in range(trie.depth - 1, 0, -1):
            entry = trie.parents(t, entry)
            extra.insert(0, torch.from_numpy(np.bincount(entry, minlength=trie.levels[t - 1].used)))
        return [counts.to(self.tensors.device) for counts in extra]

    def open_children(self, level: int, start_R: Tensor, fan_out: int) -> Tensor:
        """bool [R, F], whether the entries from `start_R` on at `level` have an open leaf."""
        tensors, here = self.tensors, self.tensors.trie.levels[level]
        place = torch.arange(fan_out + 1, device=start_R.device)
        child = start_R[:, None] + place
        if level == tensors.trie.depth - 1 or here.used > here.base or self.extra:
            return self.open_leaves(level, child[:, :-1].clamp_max_(here.used - 1)) > 0
        # Children lie side by side: the leaves of one end where those of the next begin.
        before = self.before_E.take(tensors.base_leaf(level, child.clamp_max_(here.base)))
        return before[:, 1:] > before[:, :-1]

    def open_leaves(self, level: int, entry: Tensor) -> Tensor:
        """How many open leaves lie below entries of `level` (at the last level 0 or 1)."""
        trie, here = self.tensors.trie, self.tensors.trie.levels[level]
        if level == trie.depth - 1:
            return self.open_E.take(entry).int()
        base = entry
        if here.used > here.base:
            first = np.arange(here.base, here.used)
            for now, was in here.moved_from.items():
                first[now - here.base] = was
            first_T = torch.from_numpy(first).to(entry.device)
            base = torch.where(entry < here.base, entry, first_T[(entry - here.base).clamp_min(0)])
        after, before = (self.tensors.base_leaf(level, edge) for edge in (base + 1, base))
        counts = self.before_E[after] - self.before_E[before]
        return counts + self.extra[level][entry] if self.extra else counts

    def items_on(self, leaf: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many allowed live items are on leaves named by their first place."""
        if self._counts is None:
            live = self._leaf_n[self._leaf_n >= 0]
            self._counts = np.bincount(live, minlength=self.tensors.trie.levels[-1].used)
        return self._counts[leaf]


class CompiledMask:
    """An allow mask in the cheaper of two forms: `leaves`, or the items it denies as a list, with what they close."""

    def __init__(self, allow_N: NDArray[np.bool_], tensors: TrieTensors) -> None:
        self.allow_N, self.version = allow_N, tensors.trie.version
        known = allow_N[: len(tensors.trie.leaf_N)]
        allowed = int(np.count_nonzero(known))
        beyond = np.arange(len(allow_N), len(tensors.trie.leaf_N))  # items newer than the mask: not in it
        self.leaves: OpenLeaves | None = None
        self.denied = beyond
        self.closed: Closed = []
        if len(tensors.trie.leaf_N) - allowed > max(64, len(tensors.trie.leaf_N) // 32):
            self.leaves = OpenLeaves(np.flatnonzero(known), tensors)
        else:
            self.denied = np.concatenate([np.flatnonzero(~known), beyond])
            self.closed = closed_by(self.denied, None, tensors)

    @property
    def bytes(self) -> int:
        """Memory of the compiled form."""
        return self.leaves.bytes if self.leaves else self.denied.nbytes


def closed_by(deny: NDArray[np.int64], leaves: OpenLeaves | None, tensors: TrieTensors) -> Closed:
    """What a list of items, on top of a mask, closes at each level.

    A leaf closes when all its open items are denied, a prefix when all its open leaves are closed.
    """
    trie, last = tensors.trie, tensors.trie.levels[-1]
    deny = np.unique(deny)
    leaf = trie.leaf_N[deny[(deny >= 0) & (deny < len(trie.leaf_N))]]
    leaf, denied = np.unique(leaf[leaf >= 0], return_counts=True)
    entry = last.present(leaf.astype(np.int64))
    entry = entry[denied == (last.live[entry] if leaves is None else leaves.items_on(leaf))]
    dead = np.ones(len(entry), np.int64)
    closed: Closed = []
    for t in range(trie.depth - 1, 0, -1):
        parent = trie.parents(t, entry)
        closed.insert(0, (parent, entry))
        above, place = np.unique(parent, return_inverse=True)
        dead = np.bincount(place, weights=dead, minlength=len(above)).astype(np.int64)
        if leaves is None:
            whole = dead == trie.levels[t - 1].live[above]
        else:
            whole = dead == leaves.open_leaves(t - 1, torch.from_numpy(above).to(tensors.device)).numpy(force=True)
        entry, dead = above[whole], dead[whole]
    closed.insert(0, (np.zeros(len(entry), np.int64), entry))
    return closed


def denied_inside(deny: NDArray[np.int64], mask: CompiledMask) -> NDArray[np.int64]:
    """The denied items that the mask allows: the others are closed already."""
    inside = deny[(deny >= 0) & (deny < len(mask.allow_N))]
    return inside[mask.allow_N[inside]]
