"""Rows by key: bitmaps of frequent keys, sorted rows of rare ones. A bitmap is one bit a row, in words of 64.

Shapes: N rows, W words, K keys, P pairs of a key and a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Rows = NDArray[np.int32]
RARE = 16
"""A key of at most one in so many rows is a list: a row of a list has 16 bits, a row of a bitmap one."""


def word_count(size: int) -> int:
    """W of `size` rows."""
    return -(-size // 64)


def unpack(words: Words, size: int) -> NDArray[np.bool_]:
    """bool [N] of a bitmap."""
    return np.unpackbits(words.view(np.uint8), count=size, bitorder="little").view(np.bool_)


def marked(rows: NDArray[np.integer], size: int) -> Words:
    """The bitmap of rows."""
    padded = np.zeros(word_count(size) * 64, np.bool_)
    padded[rows] = True
    return np.packbits(padded, bitorder="little").view(np.uint64)


class Postings:
    """The rows of each key."""

    def __init__(self, key_P: NDArray[np.integer], row_P: NDArray[np.integer], keys: int, size: int) -> None:
        """`size` is N; keys are 0 to `keys` - 1, and the rows of a key stand in rising order."""
        self._size = size
        count_K = np.bincount(key_P, minlength=keys)
        dense = (count_K > size / RARE).nonzero()[0]
        self._bitmap_of = np.full(keys, -1, np.int32)
        self._bitmap_of[dense] = np.arange(len(dense))
        self._bitmaps = np.zeros((len(dense), word_count(size)), np.uint64)
        for place, key in enumerate(dense):
            self._bitmaps[place] = marked(row_P[key_P == key], size)
        is_rare_P = self._bitmap_of[key_P] < 0
        self._keep_rare(key_P[is_rare_P], row_P[is_rare_P], keys)

    def _keep_rare(self, key_P: NDArray[np.integer], row_P: NDArray[np.integer], keys: int) -> None:
        """The rows of a key one after the other. Where that is shorter they are kept in blocks of 2^16 rows, each by
        the 16 bits of its place in the block."""
        in_blocks = 4 * keys * ((self._size >> 16) + 1) <= 2 * len(row_P)
        self._shift = 16 if in_blocks else 31
        self._blocks = (self._size >> self._shift) + 1
        self._low = (row_P[_stable_order(key_P, keys)] & ((1 << self._shift) - 1)).astype(
            np.uint16 if in_blocks else np.int32
        )
        run_P = key_P.astype(np.int64) * self._blocks + (row_P >> self._shift)
        self._first = np.zeros(keys * self._blocks + 1, np.int32)
        np.cumsum(np.bincount(run_P, minlength=keys * self._blocks), out=self._first[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(held.nbytes for held in (self._bitmap_of, self._bitmaps, self._low, self._first))

    def add(self, words: Words, keys: NDArray[np.integer]) -> None:
        """Set the rows of `keys` in a bitmap."""
        for place in self._dense(keys):
            words |= self._bitmaps[place]
        rows = self._rare(keys)
        if len(rows) > self._size / 64:
            words |= marked(rows, self._size)
        elif len(rows):
            np.bitwise_or.at(words, rows >> 6, _bit(rows))

    def take_out(self, words: Words, keys: NDArray[np.integer]) -> None:
        """Clear the rows of `keys` in a bitmap."""
        for place in self._dense(keys):
            words &= ~self._bitmaps[place]
        rows = self._rare(keys)
        if len(rows):
            np.bitwise_and.at(words, rows >> 6, ~_bit(rows))

    def _dense(self, keys: NDArray[np.integer]) -> NDArray[np.int32]:
        place: NDArray[np.int32] = self._bitmap_of[keys]
        return place[place >= 0]

    def _rare(self, keys: NDArray[np.integer]) -> Rows:
        """The rows of all rare ones of `keys`, one run after the other."""
        block = np.arange(self._blocks)
        run = (keys.astype(np.int64)[:, None] * self._blocks + block).ravel()
        first = self._first[run].astype(np.int64)
        count = self._first[run + 1] - first
        end = np.cumsum(count)
        if not len(end) or not end[-1]:
            return np.zeros(0, np.int32)
        low = self._low[np.repeat(first - (end - count), count) + np.arange(end[-1])]
        rows: Rows = low + np.repeat(np.tile(block.astype(np.int32) << self._shift, len(keys)), count)
        return rows


def _stable_order(key_P: NDArray[np.integer], keys: int) -> NDArray[np.int64]:
    """As a stable argsort, which numpy makes by radix for 16 bits: several times as fast as for more."""
    order_P: NDArray[np.int64] = np.argsort(key_P.astype(np.uint16) if keys <= 1 << 16 else key_P, kind="stable")
    return order_P


def _bit(rows: Rows) -> Words:
    return np.left_shift(np.uint64(1), (rows & 63).astype(np.uint64))
