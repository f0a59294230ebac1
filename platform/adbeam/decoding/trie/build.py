"""Building the trie's arrays from a catalogue: one sort, then one pass a level.

25 million ads take about 50 bytes an ad while building. Shapes: N items, T levels, E entries of one level.
"""

from __future__ import annotations

import numpy as np

from adbeam.decoding.trie.items import ItemsBeside
from adbeam.decoding.trie.level import Array, TrieLevel
from adbeam.errors import UserError

MAX_SPACE = 2**62


def build_levels(
    sids_NT: Array, codebooks: tuple[int, ...], live_N: Array | None
) -> tuple[list[TrieLevel], Array, Array, ItemsBeside]:
    """The levels, `leaf_N`, `item_E` and the items beside; raises UserError when no item is live or a code does not
    fit."""
    _check(sids_NT, codebooks, live_N)
    leaf_N = np.full(len(sids_NT), -1, np.int32)
    key_E, live_E, item_E, beside = _unique_keys(sids_NT, codebooks, live_N, leaf_N)
    levels: list[TrieLevel] = []
    start_E: Array | None = None
    length_E: Array | None = None
    for t in range(len(codebooks) - 1, 0, -1):
        code_E = (key_E % codebooks[t]).astype(smallest(codebooks[t]))
        levels.insert(0, TrieLevel(code_E, live_E, start_E, length_E))
        key_E //= codebooks[t]
        first_E = _firsts(key_E)
        length_E = np.diff(first_E, append=len(key_E))
        length_E = length_E.astype(smallest(int(length_E.max())))
        if t == len(codebooks) - 1:
            live_E = length_E  # one array for both until the first update
        else:
            live_E = np.add.reduceat(live_E, first_E, dtype=np.int64)
            live_E = live_E.astype(smallest(int(live_E.max())))
        start_E, key_E = first_E.astype(np.int32), key_E[first_E]
    levels.insert(0, _dense(key_E, codebooks[0], live_E, start_E, length_E))
    return levels, leaf_N, item_E, beside


def smallest(largest: int) -> type[np.signedinteger]:
    """The integer type for values up to `largest`."""
    if largest < 2**7:
        return np.int8
    return np.int16 if largest < 2**15 else np.int32 if largest < 2**31 else np.int64


def _unique_keys(
    sids_NT: Array, codebooks: tuple[int, ...], live_N: Array | None, leaf_N: Array
) -> tuple[Array, Array, Array, ItemsBeside]:
    """Sorted distinct SIDs as one number each, how many items each has, and which; fills `leaf_N`."""
    key_N = np.zeros(len(sids_NT), np.int64)
    for t, size in enumerate(codebooks):
        key_N *= size
        key_N += sids_NT[:, t]
    item_bits = max(1, int(len(key_N) - 1).bit_length())
    if int(np.prod(codebooks, dtype=object)).bit_length() + item_bits <= 62:
        # One sort of "key, item" in a single word is several times faster than an argsort, and needs less memory.
        key_N <<= item_bits
        key_N |= np.arange(len(key_N))
        if live_N is not None:
            key_N = key_N[live_N]
        key_N.sort()
        item_N: Array = (key_N & ((1 << item_bits) - 1)).astype(np.int32)
        key_N >>= item_bits
    else:
        item_N = np.arange(len(key_N)) if live_N is None else np.flatnonzero(live_N)
        item_N = item_N[np.argsort(key_N[item_N], kind="stable")]
        key_N = key_N[item_N]
    first_E = _firsts(key_N)
    count_E = np.diff(first_E, append=len(key_N))
    leaf_N[item_N] = np.repeat(np.arange(len(first_E), dtype=np.int32), count_E)
    further = np.ones(len(item_N), bool)
    further[first_E] = False
    beside = ItemsBeside(item_N[further].astype(np.int32), leaf_N[item_N[further]])
    item_E = item_N[first_E].astype(np.int32)
    return key_N[first_E], count_E.astype(smallest(int(count_E.max()))), item_E, beside


def _firsts(key_E: Array) -> Array:
    """Where each new value begins in a sorted array."""
    new = np.empty(len(key_E), bool)
    new[0] = True
    np.not_equal(key_E[1:], key_E[:-1], out=new[1:])
    return np.flatnonzero(new)


def _dense(code_E: Array, size: int, live_E: Array, start_E: Array | None, length_E: Array | None) -> TrieLevel:
    """Level 0: one entry for every code, so that its bitmask is `live > 0` and the entry is the code."""
    live = np.zeros(size, live_E.dtype)
    live[code_E] = live_E
    if start_E is None or length_E is None:
        return TrieLevel(np.zeros(0, np.int16), live, None, None)
    length = np.zeros(size, length_E.dtype)
    length[code_E] = length_E
    # Codes without children point to where their children would begin: `start` stays sorted for the search of parents.
    start = np.append(start_E, 0)[np.searchsorted(code_E, np.arange(size))]
    start[np.arange(size) > code_E[-1]] = 2**31 - 1
    return TrieLevel(np.zeros(0, np.int16), live, start, length)


def _check(sids_NT: Array, codebooks: tuple[int, ...], live_N: Array | None) -> None:
    if sids_NT.ndim != 2 or sids_NT.shape[1] != len(codebooks):
        raise UserError(
            "the semantic IDs do not have one code for each codebook",
            field="sids",
            value=sids_NT.shape,
            remedy=f"give an array [items, {len(codebooks)}]",
        )
    if len(sids_NT) == 0 or (live_N is not None and not live_N.any()):
        raise UserError("the catalogue holds no live ad", field="catalogue", remedy="index at least one live ad")
    if np.prod([float(size) for size in codebooks]) > MAX_SPACE:
        raise UserError("the code space exceeds 2^62", field="codebooks", value=codebooks, remedy="use fewer codes")
    for t, size in enumerate(codebooks):
        low, high = int(sids_NT[:, t].min()), int(sids_NT[:, t].max())
        if low < 0 or high >= size:
            raise UserError(
                f"level {t} has codes outside its codebook",
                field="sids",
                value=low if low < 0 else high,
                remedy=f"codes of level {t} are 0 to {size - 1}",
            )
