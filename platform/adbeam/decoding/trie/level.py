"""One level of the trie: arrays with room to grow.

Rows built from the catalogue stay where they are. A row that must grow moves to the appended end, and `length` of its
parent then holds minus one minus the row's number in the small table of moved rows, so `start` of the base stays sorted
and a parent is found by binary search instead of four bytes an entry.

Shape: E entries of one level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class TrieLevel:
    """The entries of one level: `used` are in force, the first `base` of them came from the build."""

    def __init__(self, code_E: Array, live_E: Array, start_E: Array | None, length_E: Array | None) -> None:
        self.base = self.used = len(live_E)
        self.code = code_E
        """Code of each entry; empty at level 0, where the entry is the code."""
        self.live = live_E
        """Live leaves below an entry; at the last level, live items on the leaf."""
        self.start, self.length = start_E, length_E
        """The row of children one level down; absent at the last level."""
        self.parent = np.zeros(0, np.int32)
        """Parent entry of each appended entry."""
        self.row_start = np.zeros(0, np.int32)
        self.row_length = np.zeros(0, np.int32)
        self.row_room: list[int] = []
        """The rows of children that moved: where they begin, how long they are, how long they may become in place."""
        self.moved_to: dict[int, int] = {}
        self.moved_from: dict[int, int] = {}
        """Entries that moved: first place -> present place, and back."""
        self.moved_sorted: tuple[Array, Array] | None = None
        """`moved_to` as sorted arrays; None until asked for after a change."""
        self.firsts: Array | None = None
        """`first_places` likewise."""

    def arrays(self) -> dict[str, Array]:
        """The arrays of this level by name."""
        named = {"code": self.code, "live": self.live, "start": self.start, "length": self.length}
        held = {name: array for name, array in named.items() if array is not None}
        return held | {"parent": self.parent, "row_start": self.row_start, "row_length": self.row_length}

    def row(self, entry: int) -> tuple[int, int]:
        """Where the children of `entry` begin one level down, and how many there are."""
        assert self.start is not None and self.length is not None
        length = int(self.length[entry])
        if length >= 0:
            return int(self.start[entry]), length
        return int(self.row_start[-1 - length]), int(self.row_length[-1 - length])

    def rows(self, entry_E: Array) -> tuple[Array, Array]:
        """`row` of many entries."""
        assert self.start is not None and self.length is not None
        start, length = self.start[entry_E].astype(np.int64), self.length[entry_E].astype(np.int64)
        moved = length < 0
        if moved.any():
            place = -1 - length[moved]
            start[moved], length[moved] = self.row_start[place], self.row_length[place]
        return start, length

    def present(self, entry_E: Array) -> Array:
        """Where entries that are named by their first place are now."""
        if not self.moved_to:
            return entry_E
        if len(entry_E) == 1:
            return np.array([self.moved_to.get(int(entry_E[0]), int(entry_E[0]))])
        if self.moved_sorted is None:
            pairs = np.array(sorted(self.moved_to.items()), np.int64)
            self.moved_sorted = pairs[:, 0].copy(), pairs[:, 1].copy()
        first, now = self.moved_sorted
        place = np.minimum(np.searchsorted(first, entry_E), len(first) - 1)
        return np.where(first[place] == entry_E, now[place], entry_E)

    def first_places(self) -> Array:
        """int64, where each entry behind the build's was when it came."""
        if self.firsts is None or len(self.firsts) < self.used - self.base:
            firsts = np.arange(self.base, self.used)
            if self.moved_from:
                pairs = np.array(list(self.moved_from.items()), np.int64)
                firsts[pairs[:, 0] - self.base] = pairs[:, 1]
            self.firsts = firsts  # whole: several threads may search at once
        return self.firsts

    def append(self, count: int, parent: int) -> int:
        """Make room for `count` dead entries at the end, children of `parent`; returns the first."""
        first, self.used = self.used, self.used + count
        if self.used > len(self.live):
            self._grow(self.used + max(1024, self.used // 16))
        self.parent[first - self.base : self.used - self.base] = parent
        return first

    def _grow(self, size: int) -> None:
        for name in ("code", "live", "start", "length"):
            old = getattr(self, name)
            if old is not None:
                setattr(self, name, np.concatenate([old, np.zeros(size - len(old), old.dtype)]))
        self.parent = np.concatenate([self.parent, np.zeros(size - self.base - len(self.parent), np.int32)])
