"""Per-request filters, pushed down the trie: a prefix is open if any live ad below it is allowed.

Two forms with different costs. `deny` names items (ads already seen): only the leaves they hold and the prefixes that
thereby die are looked at, so a request pays for its own list. `allow` is a mask over all items (targeting, blocked
advertisers): it is compiled once and kept, so that many requests can share it.

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


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """Which items (row numbers of the trie) a request may be answered with: those in `allow` and not in `deny`."""

    allow: NDArray[np.bool_] | None = None
    """bool [N]; None allows all. Give the same array to many requests and it is compiled once. Do not write to it."""
    deny: NDArray[np.int64] | Sequence[int] = field(default=())

    def __post_init__(self) -> None:
        if self.allow is not None and (self.allow.dtype != np.bool_ or self.allow.ndim != 1):
            raise UserError("an allow mask is a boolean array, one value an item", field="filters.allow",
                            value=(self.allow.dtype.name, self.allow.shape))  # fmt: skip

    @property
    def is_open(self) -> bool:
        """Whether it leaves everything."""
        return self.allow is None and len(self.deny) == 0


class CompiledMask:
    """One allow mask against one version of a trie: the leaves that stay open, and how many lie before each of them."""

    def __init__(self, allow_N: NDArray[np.bool_], tensors: TrieTensors) -> None:
        self.tensors, self.allow_N = tensors, allow_N
        self.version = tensors.trie.version
        last = tensors.trie.levels[-1]
        self._leaves = tensors.leaf_N[: len(allow_N)][
            torch.from_numpy(allow_N[: len(tensors.leaf_N)]).to(tensors.device)
        ]
        first_E = torch.zeros(last.used + 1, dtype=torch.uint8, device=tensors.device)
        first_E[self._leaves] = 1  # items that are not live have leaf -1, which is the spare last place
        self.before_E = torch.zeros(last.base + 1, dtype=torch.int32, device=tensors.device)
        torch.cumsum(first_E[: last.base], 0, dtype=torch.int32, out=self.before_E[1:])
        self.open_E = self._present(first_E)
        self.extra = self._appended(first_E)
        self._counts: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Memory of the compiled form."""
        return self._leaves.nbytes + self.before_E.nbytes + self.open_E.nbytes

    def _present(self, first_E: Tensor) -> Tensor:
        """bool [E], by the present place of each leaf instead of the first."""
        open_E = first_E[:-1].bool()
        moved = self.tensors.trie.levels[-1].moved_to
        if moved:
            first = torch.tensor(list(moved), device=open_E.device)
            now = torch.tensor(list(moved.values()), device=open_E.device)
            value = first_E[first].bool()
            open_E[first] = False
            open_E[now] = value
        return open_E

    def _appended(self, first_E: Tensor) -> list[Tensor]:
        """Per level, how many open leaves that are not in the base lie below each entry; empty without updates."""
        trie = self.tensors.trie
        last = trie.levels[-1]
        leaf = np.flatnonzero(first_E[last.base : last.used].numpy(force=True)) + last.base
        if not len(leaf):
            return []
        entry = last.present(leaf)
        extra: list[Tensor] = []
        for t in range(trie.depth - 1, 0, -1):
            entry = trie.parents(t, entry)
            extra.insert(0, torch.from_numpy(np.bincount(entry, minlength=trie.levels[t - 1].used)))
        return [counts.to(self.tensors.device) for counts in extra]

    def open_leaves(self, level: int, entry: Tensor) -> Tensor:
        """How many open leaves lie below entries of `level` (at the last level 0 or 1)."""
        trie = self.tensors.trie
        if level == trie.depth - 1:
            return self.open_E[entry].long()
        here = trie.levels[level]
        base = entry
        if here.used > here.base:
            first = np.arange(here.base, here.used)
            for now, was in here.moved_from.items():
                first[now - here.base] = was
            first_T = torch.from_numpy(first).to(entry.device)
            base = torch.where(entry < here.base, entry, first_T[(entry - here.base).clamp_min(0)])
        counts = (
            self.before_E[self.tensors.base_leaf(level, base + 1)] - self.before_E[self.tensors.base_leaf(level, base)]
        )
        return counts + self.extra[level][entry] if self.extra else counts

    def items_on(self, leaf: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many allowed live items are on leaves named by their first place."""
        if self._counts is None:
            leaves = self._leaves[self._leaves >= 0].long()
            self._counts = torch.bincount(leaves, minlength=self.tensors.trie.levels[-1].used)
        return self._counts[torch.from_numpy(leaf).to(self._counts.device)].numpy(force=True)


@dataclass(frozen=True)
class Closed:
    """Entries of one level that deny lists close, over all requests of a batch."""

    request: Tensor
    parent: Tensor
    entry: Tensor


def closed_by(
    deny: NDArray[np.int64], mask: CompiledMask | None, tensors: TrieTensors
) -> list[tuple[NDArray, NDArray]]:
    """Per level (parent, entry) of the entries below which a deny list (with the request's mask) leaves nothing."""
    trie = tensors.trie
    deny = np.unique(deny)
    leaf = trie.leaf_N[deny[(deny >= 0) & (deny < len(trie.leaf_N))]].astype(np.int64)
    if mask is not None:
        inside = deny[(deny >= 0) & (deny < len(trie.leaf_N))]
        leaf = np.where(
            mask.allow_N[np.minimum(inside, len(mask.allow_N) - 1)] & (inside < len(mask.allow_N)), leaf, -1
        )
    leaf, denied = np.unique(leaf[leaf >= 0], return_counts=True)
    entry = trie.levels[-1].present(leaf)
    items = trie.levels[-1].live[entry] if mask is None else mask.items_on(leaf)
    entry = entry[denied == items]
    dead = np.ones(len(entry), np.int64)
    closed: list[tuple[NDArray, NDArray]] = []
    for t in range(trie.depth - 1, -1, -1):
        parent = trie.parents(t, entry) if t else np.zeros(len(entry), np.int64)
        closed.insert(0, (parent, entry))
        if t:
            above, place = np.unique(parent, return_inverse=True)
            dead = np.bincount(place, weights=dead, minlength=len(above)).astype(np.int64)
            if mask is None:
                open_leaves = trie.levels[t - 1].live[above]
            else:
                open_leaves = mask.open_leaves(t - 1, torch.from_numpy(above).to(tensors.device)).numpy(force=True)
            whole = dead == open_leaves
            entry, dead = above[whole], dead[whole]
    return closed
