"""The compiled rules of many ads, combined for a request into the ads that may be shown.

Every feature that rules ask for leaves a bitmap of ads (columns.py); the bitmaps are joined with `and`. Requests that
tell the same share one compiled mask.

Shapes: N rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adbeam.targeting.compiled.columns import RangeColumn, WordColumn, given
from adbeam.targeting.compiled.postings import Words, unpack, word_count
from adbeam.targeting.compiled.reading import WORDS, columns_of
from adbeam.targeting.day_parts import QUARTER_MS, is_in
from adbeam.targeting.features import Features, partitions
from adbeam.targeting.told import Told, words

KEPT_BYTES = 16 << 20
KEPT_MASKS = 256
"""Masks kept, in bytes and in number; the least recently used go first."""


class CompiledRules:
    """The rules of N ads; a row without rules is for everybody."""

    def __init__(self, texts: pa.Array | pa.ChunkedArray, features: Features) -> None:
        """`texts` are as read_rules writes them, null where an ad has no rules.

        Raises UndeclaredFeatures for rules over other features.
        """
        self.size = len(texts)
        row_C = given(texts).nonzero()[0]
        table = columns_of(texts.drop_null(), features)
        self._words: dict[str, WordColumn] = {}
        self._ranges: dict[str, RangeColumn] = {}
        for name, feature in features.items():
            column = _one_chunk(table[name])
            asks = given(column)
            if asks.any() and feature.kind == "number":
                self._ranges[name] = _range(row_C[asks], column.filter(pa.array(asks)), self.size)
            elif asks.any():
                self._words[name] = WordColumn(row_C[asks], column.filter(pa.array(asks)), self.size)
        self._scenes = _choice(row_C, _one_chunk(table["scenes"]), self.size)
        hours = pc.binary_join(_one_chunk(table["hours"]), ";")
        zones = pc.fill_null(_one_chunk(table["timezone"]), "UTC")
        specs = pc.binary_join_element_wise(zones, hours, ";")
        self._hour_specs: list[str] = pc.unique(specs.drop_null()).to_pylist()
        self._hours = _choice(row_C, _as_lists(specs), self.size)
        self._windows = _windows(row_C, table, self.size)
        self._kept: OrderedDict[Hashable, Words] = OrderedDict()
        self._named: Words | None = None
        """The rows that ask for every partition; all others are for nobody."""
        for name in partitions(features):
            nothing = np.zeros(word_count(self.size), np.uint64)
            named = self._words[name].named if name in self._words else nothing
            self._named = named if self._named is None else self._named & named

    @property
    def for_nobody(self) -> int:
        """How many rows do not ask for every partition."""
        return 0 if self._named is None else self.size - int(unpack(self._named, self.size).sum())

    @property
    def nbytes(self) -> int:
        """Bytes of the compiled form, masks that are kept aside."""
        others = (self._scenes, self._hours, self._windows)
        columns = [*self._words.values(), *self._ranges.values(), *(column for column in others if column is not None)]
        return sum(column.nbytes for column in columns)

    def allow(self, told: Told) -> NDArray[np.bool_]:
        """bool [N], a new array: the ads that a request may be shown."""
        key = self._key(told)
        mask = self._kept.get(key)
        if mask is None:
            mask = self._kept[key] = self._joined(told)
        self._kept.move_to_end(key)
        if len(self._kept) > min(KEPT_MASKS, max(1, KEPT_BYTES // max(1, mask.nbytes))):
            self._kept.popitem(last=False)
        return unpack(mask, self.size)

    def _key(self, told: Told) -> Hashable:
        """Requests of one key get one mask."""
        asked = tuple(pair for pair in told.context if pair[0] in self._words or pair[0] in self._ranges)
        return (
            asked,
            tuple(name for name in told.unread if name in self._words or name in self._ranges),
            told.scene if self._scenes is not None else None,
            told.now_ms // QUARTER_MS if self._hours is not None else None,
            self._windows.place(told.now_ms) if self._windows is not None else None,
        )

    def _joined(self, told: Told) -> Words:
        mask = np.full(word_count(self.size), ~np.uint64(0))
        for left in self._left(told):
            mask &= left
        return mask

    def _left(self, told: Told) -> Iterator[Words]:
        features = told.features
        if self._named is not None:
            yield self._named
        for name, column in self._words.items():
            yield column.unasked if name in told.unread else column.leave(words(features.get(name)))
        for name, numbers in self._ranges.items():
            value = features.get(name)
            known = value if isinstance(value, int | float) else None
            yield numbers.unasked if name in told.unread else numbers.leave(known)
        if self._scenes is not None:
            yield self._scenes.leave((told.scene,))
        if self._hours is not None:
            # A word that no rule has stands for the present: else no day part would be a feature that is missing.
            yield self._hours.leave(("", *(spec for spec in self._hour_specs if _is_now(spec, told.now_ms))))
        if self._windows is not None:
            yield self._windows.leave(told.now_ms)


def _is_now(spec: str, now_ms: int) -> bool:
    timezone, *parts = spec.split(";")
    return is_in(parts, now_ms, timezone)


def _range(row_C: NDArray[np.int64], column: pa.StructArray, size: int) -> RangeColumn:
    low, high = (
        pc.fill_null(pc.struct_field(column, name), bound).to_numpy(zero_copy_only=False)
        for name, bound in (("from", -np.inf), ("to", np.inf))
    )
    missing = pc.fill_null(pc.struct_field(column, "missing"), False).to_numpy(zero_copy_only=False)
    return RangeColumn(row_C, low, high, missing, size)


def _windows(row_C: NDArray[np.int64], table: pa.Table, size: int) -> RangeColumn | None:
    """The moments from start to the last before end."""
    start, end = (_one_chunk(table[name]) for name in ("start", "end"))
    asks = given(start) | given(end)
    if not asks.any():
        return None
    low = pc.fill_null(start.cast(pa.float64()), -np.inf).to_numpy(zero_copy_only=False)[asks]
    high = pc.fill_null(pc.subtract(end.cast(pa.float64()), 1.0), np.inf).to_numpy(zero_copy_only=False)[asks]
    return RangeColumn(row_C[asks], low, high, np.zeros(len(low), np.bool_), size)


def _choice(row_C: NDArray[np.int64], lists: pa.Array, size: int) -> WordColumn | None:
    """A column of conditions `in`; None where no row has one."""
    asks = given(lists)
    if not asks.any():
        return None
    held = lists.filter(pa.array(asks))
    nothing = [pa.nulls(len(held), field.type) for field in list(WORDS)[1:]]
    return WordColumn(row_C[asks], pa.StructArray.from_arrays([held, *nothing], fields=list(WORDS)), size)


def _as_lists(values: pa.Array) -> pa.Array:
    """Each value as a list of one; null where there is none."""
    ends = np.cumsum(values.is_valid().to_numpy(zero_copy_only=False), dtype=np.int32)
    offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
    return pa.ListArray.from_arrays(offsets, values.drop_null(), mask=values.is_null())


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
