"""One answer as it is filled: the best ads that its rules leave, in their order.

Ads are looked at from the best on, and each is taken unless some kind of it is full. So the answer ends short only
where no ad is left that could be added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

Kinds = Sequence[Hashable | None]
"""What an ad is, one value a rule in the order of the rules: its advertiser, its category; None where nobody said."""


class Listing:
    """Counts the ads of one answer by kind."""

    def __init__(self, most: Mapping[str, int], count: int) -> None:
        """`most` ads of one kind by rule, `count` in all."""
        self.left = count
        """Ads that are wanted still."""
        self.passed_over: Counter[str] = Counter()
        """Ads that were not taken, by rule."""
        self._rules = [(name, number, dict[Hashable, int]()) for name, number in most.items()]

    @property
    def rules(self) -> int:
        """How many rules there are."""
        return len(self._rules)

    def takes(self, kinds: Kinds) -> bool:
        """Whether an ad of these kinds goes into the answer; if so, it is counted."""
        if self.left <= 0:
            return False
        for (name, number, counts), kind in zip(self._rules, kinds, strict=True):
            if kind is not None and counts.get(kind, 0) >= number:
                self.passed_over[name] += 1
                return False
        for (_, _, counts), kind in zip(self._rules, kinds, strict=True):
            if kind is not None:
                counts[kind] = counts.get(kind, 0) + 1
        self.left -= 1
        return True

    def full(self, place: int) -> list[Hashable]:
        """The kinds of one rule, by its place, of which no more ads are taken."""
        _, number, counts = self._rules[place]
        return [kind for kind, count in counts.items() if count >= number]


def kinds_of(ad: Mapping[str, Any], category: str | None, most: Mapping[str, int]) -> list[Hashable | None]:
    """The kinds of an ad as the response carries it, beside which its category is known."""
    values = {
        "advertiser": ad.get("advertiser"),
        "campaign": ad.get("campaign"),
        "category": category,
        "sid": tuple(ad["sid"]) or None,
    }
    return [values[name] for name in most]
