"""Paths through the trie: how the live catalogue narrows along one semantic ID, prefix by prefix, for the console.

Shapes: T levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adbeam.decoding.trie.trie import Trie
from adbeam.errors import UserError


@dataclass(frozen=True)
class Step:
    """One prefix of a semantic ID."""

    prefix: tuple[int, ...]
    branches: int
    """Codes that may follow it; 0 after the last level."""
    leaves: int
    """Live semantic IDs below it; live ads of it after the last level."""


def steps(trie: Trie, sid: Sequence[int]) -> list[Step]:
    """A step for every prefix of `sid` that is live, the empty one first: T + 1 steps when the whole of it is.

    Waits for a search under way. Raises UserError when `sid` does not fit the codebooks.
    """
    codes = tuple(sid)
    if len(codes) != trie.depth or not all(0 <= c < v for c, v in zip(codes, trie.codebooks, strict=True)):
        raise UserError(
            "the semantic ID does not fit the codebooks",
            field="sid",
            value=".".join(map(str, codes)),
            remedy=f"give one code for each of the codebooks {', '.join(map(str, trie.codebooks))}",
        )
    with trie.searching():
        first = trie.levels[0].live
        live = first if trie.depth > 1 else first > 0
        found = [Step((), int((first > 0).sum()), int(live.sum(dtype="int64")))]
        for t, entry in enumerate(trie.find(codes)):
            leaves = int(trie.levels[t].live[entry])
            if leaves == 0:
                break
            found.append(Step(codes[: t + 1], _branches(trie, t, entry), leaves))
    return found


def _branches(trie: Trie, level: int, entry: int) -> int:
    if level + 1 == trie.depth:
        return 0
    start, length = trie.levels[level].row(entry)
    return int((trie.levels[level + 1].live[start : start + length] > 0).sum())
