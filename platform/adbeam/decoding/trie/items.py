"""The items that the leaves' own entry does not name: further items of one semantic ID, and items that came later.

Shapes: n items.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adbeam.decoding.trie.level import Array


class ItemsBeside:
    """Items with the leaf (its first place) on which they were put. Some are there no more: ask `Trie.leaf_N`."""

    def __init__(self, item_n: Array, leaf_n: Array) -> None:
        self._built = item_n, leaf_n
        self._late: dict[int, int] = {}
        self._gone: set[int] = set()
        self._joined: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def nbytes(self) -> int:
        """Memory of what the build left."""
        return self._built[0].nbytes + self._built[1].nbytes

    def put(self, item: int, leaf: int, is_first: bool) -> None:
        """Note an item that came after the build; `is_first`: back to the leaf whose first item it was."""
        if is_first:
            self._gone.discard(item)
        else:
            self._late[item], self._joined = leaf, None

    def take(self, item: int, is_first: bool) -> None:
        """Note that an item left; `is_first`: it is the one that its leaf's own entry names."""
        if is_first:
            self._gone.add(item)
        elif self._late.pop(item, None) is not None:
            self._joined = None

    def gone(self) -> NDArray[np.int64]:
        """Items that a leaf's own entry names though they are there no more."""
        return np.fromiter(self._gone, np.int64, len(self._gone))

    def items_and_leaves(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(items [n], leaves [n])."""
        if self._joined is None:
            late = np.fromiter(self._late.items(), np.dtype((np.int64, 2)), len(self._late)).reshape(-1, 2)
            item, leaf = (np.concatenate([built, late[:, c]]).astype(np.int64) for c, built in enumerate(self._built))
            self._joined = item, leaf
        return self._joined
