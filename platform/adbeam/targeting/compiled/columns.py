"""The conditions of all ads on one feature, asked at once: bitmaps of the ads that one value leaves.

Shapes: N rows, C rows with a condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adbeam.targeting.compiled.postings import Postings, Words, marked

_NONE = np.zeros(0, np.int64)


class WordColumn:
    """Conditions `in` and `not_in` on a category or list."""

    def __init__(self, row_C: NDArray[np.int64], conditions_C: pa.StructArray, size: int) -> None:
        """`conditions_C` have the fields in, not_in (lists of text) and missing."""
        lists = {name: pc.struct_field(conditions_C, name) for name in ("in", "not_in")}
        values = pa.chunked_array([pc.list_flatten(held) for held in lists.values()]).combine_chunks()
        self._key_of: dict[str, int] = {
            value: key for key, value in enumerate(pc.unique(values).to_pylist()) if value is not None
        }
        vocabulary = pa.array(list(self._key_of), pa.string())
        self._in, self._not_in = (
            _postings(row_C, held, vocabulary, size) if held.null_count < len(held) else None for held in lists.values()
        )
        self.unasked = ~marked(row_C, size)
        """The rows without a condition."""
        self._open = ~marked(row_C[given(lists["in"])], size)
        self._missing = ~marked(row_C[~_true(pc.struct_field(conditions_C, "missing"))], size)

    @property
    def named(self) -> Words:
        """A bitmap of the rows that name by `in` whom they are for, and are closed where the feature is missing."""
        return ~self._open & ~self._missing

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and of the words."""
        words = sum(len(word) + 64 for word in self._key_of)
        bitmaps = self.unasked.nbytes + self._open.nbytes + self._missing.nbytes
        return bitmaps + words + sum(p.nbytes for p in (self._in, self._not_in) if p)

    def leave(self, values: Iterable[str]) -> Words:
        """A bitmap of the rows that are for a request with these values, all rows without a condition among them;
        none mean that the feature is missing."""
        told = tuple(values)
        if not told:
            return self._missing.copy()
        key_of: Mapping[str, int] = self._key_of
        keys = np.fromiter((key_of[value] for value in told if value in key_of), np.int64)
        left = self._open.copy()
        if self._in is not None:
            self._in.add(left, keys)
        if self._not_in is not None:
            self._not_in.take_out(left, keys)
        return left


class RangeColumn:
    """Conditions `from` and `to` on a number; equal ranges are kept once."""

    def __init__(
        self, row_C: NDArray[np.int64], low_C: NDArray[np.float64], high_C: NDArray[np.float64],
        missing_C: NDArray[np.bool_], size: int,
    ) -> None:  # fmt: skip
        """Both bounds belong to the range; infinite ones are none."""
        self._lows, low_code_C = np.unique(low_C, return_inverse=True)
        self._highs, high_code_C = np.unique(high_C, return_inverse=True)
        pairs, key_C = np.unique(low_code_C.astype(np.int64) * len(self._highs) + high_code_C, return_inverse=True)
        self._low_K, self._high_K = self._lows[pairs // len(self._highs)], self._highs[pairs % len(self._highs)]
        self._ranges = Postings(key_C, row_C, len(pairs), size)
        self.unasked = ~marked(row_C, size)
        """The rows without a condition."""
        self._missing = ~marked(row_C[~missing_C], size)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        held = (self._lows, self._highs, self._low_K, self._high_K, self.unasked, self._missing)
        return self._ranges.nbytes + sum(array.nbytes for array in held)

    def place(self, value: float) -> tuple[int, int]:
        """Values of one place leave the same rows."""
        return int(np.searchsorted(self._lows, value, "right")), int(np.searchsorted(self._highs, value, "left"))

    def leave(self, value: float | None) -> Words:
        """As WordColumn.leave."""
        if value is None:
            return self._missing.copy()
        left = self.unasked.copy()
        self._ranges.add(left, ((self._low_K <= value) & (value <= self._high_K)).nonzero()[0])
        return left


def _postings(row_C: NDArray[np.int64], lists: pa.Array, vocabulary: pa.Array, size: int) -> Postings:
    key_P = pc.index_in(pc.list_flatten(lists), value_set=vocabulary).to_numpy(zero_copy_only=False)
    row_P = row_C[pc.list_parent_indices(lists).to_numpy()]
    return Postings(key_P.astype(np.int32), row_P, len(vocabulary), size)


def given(values: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """bool [rows]: where a row says anything."""
    valid: NDArray[np.bool_] = values.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _true(values: pa.Array) -> NDArray[np.bool_]:
    true: NDArray[np.bool_] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return true
