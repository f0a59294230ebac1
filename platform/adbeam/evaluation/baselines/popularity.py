"""Baselines to beat: popularity, the user's own most frequent items, the last category's most popular.

All are counted on what came before the judged split, over the items that may be recommended (ads), and ties are broken
by item number so that a rerun gives the same list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from itertools import chain

import numpy as np

from adbeam.logs.requests import AD, Request, UserSequence
from adbeam.records import ACTIONS, SPLITS


@dataclass(frozen=True)
class Popularity:
    """Ads by falling number of conversions (clicks, where those are the log's targets), overall and inside each
    category."""

    counts: Mapping[str, int]
    ranked: list[str]
    by_category: Mapping[str | None, list[str]]
    category_of: Mapping[str, str | None]

    def popularity(self, request: Request, banned: Set[str], k: int) -> list[str]:
        """The k most popular ads."""
        return first_allowed(self.ranked, banned, k)

    def own_frequency(self, request: Request, banned: Set[str], k: int) -> list[str]:
        """The user's own most frequent ads before the request, newest first among equals, filled up by popularity."""
        own = Counter(item for item in request.history_items()[::-1] if item in self.category_of)
        return first_allowed(chain((item for item, _ in own.most_common()), self.ranked), banned, k)

    def last_category(self, request: Request, banned: Set[str], k: int) -> list[str]:
        """The most popular ads of the category of the user's newest item, filled up by popularity."""
        history = request.history_items()
        category = self.category_of.get(history[-1]) if len(history) else None
        return first_allowed(chain(self.by_category.get(category, []), self.ranked), banned, k)


def count_conversions(
    sequences: Iterable[UserSequence],
    ads: Set[str],
    *,
    before: str,
    only_ads: bool = True,
    action: str = "conversion",
) -> Counter[str]:
    """Conversions (or another `action`) of each ad in the splits before `before`; `only_ads` counts those that a
    placement brought, else organic ones too. Judged on the test split, a baseline knows the validation split too."""
    counts: Counter[str] = Counter()
    for sequence in sequences:
        chosen = (sequence.split_H < SPLITS.index(before)) & (sequence.action_H == ACTIONS.index(action))
        if only_ads:
            chosen &= sequence.kind_H == AD
        counts.update(item for item in sequence.item_H[np.flatnonzero(chosen)] if item in ads)
    return counts


def rank_popularity(counts: Mapping[str, int], categories: Mapping[str, str | None]) -> Popularity:
    """Order ads by count; `categories` maps every ad to its category."""
    ranked = sorted(categories, key=lambda item: (-counts.get(item, 0), _natural(item)))
    by_category: dict[str | None, list[str]] = {}
    for item in ranked:
        by_category.setdefault(categories[item], []).append(item)
    return Popularity(counts, ranked, by_category, categories)


def first_allowed(candidates: Iterable[str], banned: Set[str], k: int) -> list[str]:
    """The first k distinct candidates that are not banned."""
    chosen: dict[str, None] = {}
    for item in candidates:
        if len(chosen) == k:
            break
        if item not in banned:
            chosen[item] = None
    return list(chosen)


def _natural(item: str) -> tuple[int, str]:
    return (int(item), "") if item.isdigit() else (1 << 62, item)
