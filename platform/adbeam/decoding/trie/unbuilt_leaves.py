"""The live items that no leaf's own entry names, against several allow masks at once; made once for each version of a
trie.

Shapes: M masks, n items, u leaves or entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adbeam.decoding.trie.trie import Trie


class LateLeaves:
    """Items beside the first of their leaf, leaves that came after the build, and the prefixes above those."""

    def __init__(self, trie: Trie) -> None:
        item, leaf = trie.beside.items_and_leaves()
        live = trie.leaf_N[item] == leaf
        order = np.argsort(leaf[live], kind="stable")
        self.item_n, self.leaf_n = item[live][order], leaf[live][order]
        built = int(np.searchsorted(self.leaf_n, trie.levels[-1].base))
        self.built_item_n = self.item_n[:built]
        self.built_first_n = trie.item_E[self.leaf_n[:built]]
        """Of the leaves of the build that hold further items: these, and the item that stands for the leaf."""
        self._late_item_n = self.item_n[built:]
        leaf_u, self._first_u = np.unique(self.leaf_n[built:], return_index=True)
        self._levels: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        """Per level but the last: the entries above the late leaves, and the order and the starts that bring those of
        the level below together."""
        entry = trie.levels[-1].present(leaf_u)
        for t in range(trie.depth - 1, 0, -1):
            parent = trie.parents(t, entry)
            order = np.argsort(parent, kind="stable")
            entry, start = np.unique(parent[order], return_index=True)
            self._levels.insert(0, (entry.astype(np.int64), order, start))
        self._leaf_u = leaf_u

    @property
    def none(self) -> bool:
        """Whether all leaves are of the build."""
        return not len(self._leaf_u)

    def open_items(self, allow_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The leaves, in order, of the allowed among these items."""
        leaf: NDArray[np.int64] = self.leaf_n[allowed(allow_N, self.item_n)]
        return leaf

    def counts(self, allows: Sequence[NDArray[np.bool_]], device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """Per level (entries [u] in order, how many late leaves that each mask opens lie below them, [M, u]); of the
        last level the leaves' first places. Empty where all leaves are of the build."""
        if self.none:
            return []
        allowed_Mn = np.stack([allowed(allow_N, self._late_item_n) for allow_N in allows])
        count_Mu = np.logical_or.reduceat(allowed_Mn, self._first_u, axis=1).astype(np.int64)
        found = [(self._leaf_u, count_Mu)]
        for entry_u, order, start in reversed(self._levels):
            count_Mu = np.add.reduceat(count_Mu[:, order], start, axis=1)
            found.insert(0, (entry_u, count_Mu))
        return [(torch.from_numpy(entry_u).to(device), torch.from_numpy(count).to(device)) for entry_u, count in found]


def allowed(allow_N: NDArray[np.bool_], item_n: NDArray[Any]) -> NDArray[np.bool_]:
    """bool [n], which items a mask allows: of those beyond it, which are newer than it, none."""
    if len(allow_N) == 0:
        return np.zeros(len(item_n), bool)
    allowed_n: NDArray[np.bool_] = allow_N[np.minimum(item_n, len(allow_N) - 1)] & (item_n < len(allow_N))
    return allowed_n
