"""Per-request filters, pushed down the trie: a prefix is open if any live ad below it is allowed.

Two forms. A list of denied items (ads already seen) closes leaves, and the prefixes that thereby die: only what it
names is looked at. A mask over all items (targeting, blocked advertisers) is read where the search comes by
(base.py). Neither needs to have been seen before.

Shapes: N items, E entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from adbeam.decoding.masks.base import OpenLeaves
from adbeam.decoding.trie.tensors import TrieTensors
from adbeam.errors import UserError

Closed = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Per level, parent and place of the entries below which nothing is left."""


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """Which items (row numbers of the trie) a request may be answered with: those in `allow` and not in `deny`."""

    allow: NDArray[np.bool_] | None = None
    """bool [N]; None allows all. Nobody may write to it during a search."""
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


def closed_by(deny: NDArray[np.int64], tensors: TrieTensors, asked: tuple[OpenLeaves, int] | None = None) -> Closed:
    """What a list of items, on top of a mask (`asked`: where it is, and its place there), closes at each level.

    A leaf closes when all its open items are denied, a prefix when all its open leaves are closed.
    """
    trie, last = tensors.trie, tensors.trie.levels[-1]
    deny = np.unique(deny)
    leaf = trie.leaf_N[deny[(deny >= 0) & (deny < len(trie.leaf_N))]]
    leaf, denied = np.unique(leaf[leaf >= 0], return_counts=True)
    entry = last.present(leaf.astype(np.int64))
    entry = entry[denied == (last.live[entry] if asked is None else asked[0].items_on(leaf, asked[1]))]
    dead = np.ones(len(entry), np.int64)
    closed: Closed = []
    for t in range(trie.depth - 1, 0, -1):
        parent = trie.parents(t, entry)
        closed.insert(0, (parent, entry))
        above, place = np.unique(parent, return_inverse=True)
        dead = np.bincount(place, weights=dead, minlength=len(above)).astype(np.int64)
        if asked is None:
            whole = dead == trie.levels[t - 1].live[above]
        else:
            whole = asked[0].at_most(dead, t - 1, above, asked[1])
        entry, dead = above[whole], dead[whole]
    closed.insert(0, (np.zeros(len(entry), np.int64), entry))
    return closed


def denied_inside(deny: NDArray[np.int64], allow_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The denied items that the mask allows: the others are closed already."""
    inside = deny[(deny >= 0) & (deny < len(allow_N))]
    return inside[allow_N[inside]]
