"""The trie, which is the constraint: which codes may follow a prefix, over the semantic IDs that are live now.

Level 0 is dense (entry = code). Every deeper level is a CSR array of child codes: the children of entry e are
`code[start : start + length]` one level down, and a child's position there is its entry, so a search carries positions
and never looks a code up. An update is queued by any thread and applied when the next search starts (updates.py).

Shapes: N items, T levels, V codebook, E entries of one level.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adbeam.decoding.trie.build import build_levels
from adbeam.decoding.trie.items import ItemsBeside
from adbeam.decoding.trie.level import Array, TrieLevel
from adbeam.decoding.trie.updates import put_in, take_out
from adbeam.errors import UserError

TOUCHED = 200_000
"""Changes that are remembered."""


class Trie:
    """The live semantic IDs as a prefix tree that can be searched, filtered and updated."""

    def __init__(
        self, codebooks: Sequence[int], levels: list[TrieLevel], leaf_N: Array, item_E: Array, beside: ItemsBeside
    ) -> None:
        self.codebooks = tuple(codebooks)
        self.levels = levels
        self.leaf_N = leaf_N
        """The entry at which the leaf of each item was first placed; -1 where the item is not live."""
        self.item_E = item_E
        """The first item that the build put on each leaf; `leaf_N` knows whether it is still there."""
        self.beside = beside
        self.version = 0
        self.touched: list[tuple[int, str, int, int]] = []
        """What updates changed: level (-1: `leaf_N`), array, from, to. Copies on a device catch up by it."""
        self.forgotten = 0
        """How many of the oldest changes are no longer in `touched`; a copy that has not seen them is made anew."""
        self._pending: deque[tuple[int, tuple[int, ...] | None]] = deque()
        self._lock = threading.Lock()

    @classmethod
    def build(cls, sids_NT: ArrayLike, codebooks: Sequence[int], live_N: ArrayLike | None = None) -> Trie:
        """The trie over items whose row of `sids_NT` holds their codes; row numbers are what filters name items by.

        `live_N` (bool) leaves items out. Raises UserError for an empty catalogue or a code outside its codebook.
        """
        live = None if live_N is None else np.asarray(live_N, bool)
        return cls(codebooks, *build_levels(np.asarray(sids_NT), tuple(codebooks), live))

    @property
    def depth(self) -> int:
        """T."""
        return len(self.codebooks)

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        arrays = [self.leaf_N, self.item_E, *(array for level in self.levels for array in level.arrays().values())]
        return self.beside.nbytes + sum(array.nbytes for array in {id(array): array for array in arrays}.values())

    @property
    def live_sids(self) -> int:
        """How many semantic IDs are live."""
        self.apply_pending()
        counts = self.levels[0].live
        return int((counts > 0).sum()) if self.depth == 1 else int(counts.sum(dtype=np.int64))

    def insert(self, item: int, sid: Sequence[int]) -> None:
        """Make `item` (a row number, new or known) live under `sid` for the next search. Any thread may call it."""
        codes = tuple(int(code) for code in sid)
        fits = len(codes) == self.depth and all(0 <= c < v for c, v in zip(codes, self.codebooks, strict=True))
        if not fits:
            raise UserError(
                "the semantic ID does not fit the codebooks",
                field="sid",
                value=codes,
                remedy=f"give one code for each of the codebooks {self.codebooks}",
            )
        self._pending.append((int(item), codes))

    def remove(self, item: int) -> None:
        """Take `item` out; seen by the next search. Removing what is not live does nothing. Any thread may call it."""
        self._pending.append((int(item), None))

    def apply_pending(self) -> None:
        """Apply what is queued; waits for a search that another thread has under way."""
        if self._pending:
            with self._lock:
                self._apply()

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Apply what is queued, then keep the trie still for the length of one search."""
        with self._lock:
            self._apply()
            yield

    def _apply(self) -> None:
        if not self._pending:
            return
        for level in self.levels:
            if level.live is level.length:
                level.live = level.live.copy()
        while self._pending:
            item, sid = self._pending.popleft()
            take_out(self, item)
            if sid is not None:
                put_in(self, item, sid)
        self.version += 1
        if len(self.touched) > TOUCHED:
            self.forgotten += len(self.touched) // 2
            del self.touched[: len(self.touched) // 2]

    def find(self, sid: Sequence[int]) -> list[int]:
        """The entries along `sid`, as far as the trie has them; some may be dead."""
        entries = [int(sid[0])]
        for t, code in enumerate(sid[1:], start=1):
            start, length = self.levels[t - 1].row(entries[-1])
            found = np.flatnonzero(self.levels[t].code[start : start + length] == int(code))
            if not len(found):
                break
            entries.append(start + int(found[0]))
        return entries

    def __contains__(self, sid: Sequence[int]) -> bool:
        self.apply_pending()
        entries = self.find(sid)
        return len(entries) == self.depth and bool(self.levels[-1].live[entries[-1]] > 0)

    def sids(self) -> NDArray[np.int32]:
        """int32 [n, T], every live semantic ID once."""
        self.apply_pending()
        leaf = np.flatnonzero(self.levels[-1].live[: self.levels[-1].used] > 0)
        return self.paths(self.depth - 1, leaf)

    def paths(self, level: int, entry_E: Array) -> NDArray[np.int32]:
        """int32 [E, level + 1], the codes that lead to entries of one level."""
        codes = np.empty((len(entry_E), level + 1), np.int32)
        for t in range(level, 0, -1):
            codes[:, t] = self.levels[t].code[entry_E]
            entry_E = self.parents(t, entry_E)
        codes[:, 0] = entry_E
        return codes

    def parents(self, level: int, entry_E: Array) -> Array:
        """Parent entries (one level up) of entries of `level`."""
        here, above = self.levels[level], self.levels[level - 1]
        parent = above.present(self.base_parents(level, entry_E))
        appended = entry_E >= here.base
        if appended.any():
            parent[appended] = here.parent[entry_E[appended] - here.base]
        return parent

    def base_parents(self, level: int, entry_E: Array) -> Array:
        """Where the parents of entries of `level` that the build made were when they came."""
        above = self.levels[level - 1]
        assert above.start is not None
        # Of one type on both sides: searchsorted would convert a copy of all of `start` otherwise.
        return np.searchsorted(above.start[: above.base], entry_E.astype(above.start.dtype), side="right") - 1

    def check(self) -> None:
        """Raise UserError naming the prefix if a live prefix leads to no live ad: such a catalogue is never served."""
        self.apply_pending()
        for t, (level, below) in enumerate(zip(self.levels[:-1], self.levels[1:], strict=True)):
            entry = np.flatnonzero(level.live[: level.used] > 0)
            start, length = level.rows(entry)
            alive = np.concatenate([[0], np.cumsum(below.live[: below.used] > 0)])
            empty = entry[alive[start + length] == alive[start]]
            if len(empty):
                raise empty_row(self, t, int(empty[0]))


def empty_row(trie: Trie, level: int, entry: int) -> UserError:
    """The catalogue promises a prefix that leads to no ad."""
    return UserError(
        "a live prefix of the catalogue leads to no live ad",
        field="catalogue",
        value=tuple(int(code) for code in trie.paths(level, np.array([entry]))[0]),
        remedy="rebuild the trie from the index",
    )
