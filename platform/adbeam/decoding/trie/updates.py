"""Inserting and removing an ad in a trie that is being served: microseconds, no rebuild.

Called with the trie held still (Trie._apply). Every change is noted in `trie.touched`; copies on a device follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from adbeam.decoding.trie.items import ItemsBeside
from adbeam.decoding.trie.level import Array, TrieLevel

LEAF_N = -1
"""The level by which `touched` means `Trie.leaf_N`."""


class Changing(Protocol):
    """The parts of a `Trie` that an update reads and changes; see there."""

    levels: list[TrieLevel]
    leaf_N: Array
    item_E: Array
    beside: ItemsBeside
    touched: list[tuple[int, str, int, int]]

    @property
    def depth(self) -> int: ...
    def find(self, sid: Sequence[int]) -> list[int]: ...
    def parents(self, level: int, entry_E: Array) -> Array: ...


def take_out(trie: Changing, item: int) -> None:
    """Remove `item` from its leaf, if it is live."""
    if not 0 <= item < len(trie.leaf_N) or trie.leaf_N[item] < 0:
        return
    last = trie.levels[-1]
    leaf = last.moved_to.get(int(trie.leaf_N[item]), int(trie.leaf_N[item]))
    trie.beside.take(item, _is_first(trie, item, int(trie.leaf_N[item])))
    _set_leaf(trie, item, -1)
    last.live[leaf] -= 1
    trie.touched.append((trie.depth - 1, "live", leaf, leaf + 1))
    if last.live[leaf] == 0:
        _count(trie, leaf, -1)


def put_in(trie: Changing, item: int, sid: tuple[int, ...]) -> None:
    """Add `item` under `sid`, making the path where it does not exist."""
    entries = trie.find(sid)
    while len(entries) < trie.depth:
        level = len(entries) - 1
        entries.append(_add_child(trie, level, entries[-1], sid[level + 1]))
    leaf, last = entries[-1], trie.levels[-1]
    _make_room(last, leaf)
    last.live[leaf] += 1
    trie.touched.append((trie.depth - 1, "live", leaf, leaf + 1))
    if last.live[leaf] == 1:
        _count(trie, leaf, 1)
    first = last.moved_from.get(leaf, leaf)
    _set_leaf(trie, item, first)
    trie.beside.put(item, first, _is_first(trie, item, first))


def _is_first(trie: Changing, item: int, leaf: int) -> bool:
    """Whether the build put `item` on `leaf` before any other."""
    return leaf < len(trie.item_E) and int(trie.item_E[leaf]) == item


def _make_room(level: TrieLevel, entry: int) -> None:
    """Counts that are about to outgrow their type become wider."""
    if level.live[entry] == np.iinfo(level.live.dtype).max:
        level.live = level.live.astype(np.int32)


def _set_leaf(trie: Changing, item: int, leaf: int) -> None:
    if item >= len(trie.leaf_N):
        room = np.full(max(1024, item + 1 - len(trie.leaf_N), len(trie.leaf_N) // 16), -1, trie.leaf_N.dtype)
        trie.leaf_N = np.concatenate([trie.leaf_N, room])
    trie.leaf_N[item] = leaf
    trie.touched.append((LEAF_N, "leaf_N", item, item + 1))


def _count(trie: Changing, leaf: int, change: int) -> None:
    """Add to the number of live leaves below every prefix of `leaf`."""
    entry = leaf
    for level in range(trie.depth - 1, 0, -1):
        entry = int(trie.parents(level, np.array([entry]))[0])
        _make_room(trie.levels[level - 1], entry)
        trie.levels[level - 1].live[entry] += change
        trie.touched.append((level - 1, "live", entry, entry + 1))


def _add_child(trie: Changing, level: int, entry: int, code: int) -> int:
    """A dead child `code` of `entry`. A row that is full moves to the end, with room for as many again."""
    above, below = trie.levels[level], trie.levels[level + 1]
    assert above.length is not None
    place = -1 - int(above.length[entry])
    if place < 0 or above.row_length[place] == above.row_room[place]:
        _move_row(trie, level, entry)
        place = -1 - int(above.length[entry])
    child = int(above.row_start[place] + above.row_length[place])
    above.row_length[place] += 1
    below.code[child] = code
    trie.touched += [(level, "row_length", place, place + 1), (level + 1, "code", child, child + 1)]
    return child


def _move_row(trie: Changing, level: int, entry: int) -> None:
    above, below = trie.levels[level], trie.levels[level + 1]
    old, length = above.row(entry)
    room = max(4, 2 * length)
    new = below.append(room, parent=entry)
    for name in ("code", "live", "start", "length"):
        array = getattr(below, name)
        if array is not None:
            array[new : new + length] = array[old : old + length]
            trie.touched.append((level + 1, name, new, new + room))
    below.live[old : old + length] = 0
    trie.touched.append((level + 1, "live", old, old + length))
    _note_row(trie, level, entry, (new, length, room))
    _follow(trie, level + 1, old, new, length)


def _note_row(trie: Changing, level: int, entry: int, row: tuple[int, int, int]) -> None:
    """Write into the table of moved rows where the children of `entry` are now."""
    above = trie.levels[level]
    assert above.length is not None
    if above.length[entry] >= 0:
        if len(above.row_room) >= np.iinfo(above.length.dtype).max:
            above.length = above.length.astype(np.int32)
        above.row_room.append(0)
        if len(above.row_room) > len(above.row_start):
            room = np.zeros(max(256, len(above.row_start)), np.int32)
            above.row_start = np.concatenate([above.row_start, room])
            above.row_length = np.concatenate([above.row_length, room])
        above.length[entry] = -len(above.row_room)
        trie.touched.append((level, "length", entry, entry + 1))
    place = -1 - int(above.length[entry])
    above.row_start[place], above.row_length[place], above.row_room[place] = row
    trie.touched += [(level, "row_start", place, place + 1), (level, "row_length", place, place + 1)]


def _follow(trie: Changing, level: int, old: int, new: int, length: int) -> None:
    """What names entries by number learns that they moved: items their leaf, appended children their parent."""
    here: TrieLevel = trie.levels[level]
    for offset in range(length):
        first = here.moved_from.pop(old + offset, old + offset)
        here.moved_to[first], here.moved_from[new + offset] = new + offset, first
    here.moved_sorted = here.firsts = None
    if level + 1 < trie.depth:
        parent = trie.levels[level + 1].parent
        children = (parent >= old) & (parent < old + length)
        parent[children] += new - old
