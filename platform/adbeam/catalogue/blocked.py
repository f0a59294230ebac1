"""Filters of a request: what it wants left out of its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blocked:
    """What an answer must not hold."""

    item_ids: frozenset[str] = frozenset()
    advertisers: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    seen: bool = False

    def __bool__(self) -> bool:
        return bool(self.item_ids or self.advertisers or self.categories or self.seen)
