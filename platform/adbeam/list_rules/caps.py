"""Frequency caps: what a user has seen enough of, counted from the impressions of their history.

Shapes: H events of one user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adbeam.catalogue.owners import Owner
from adbeam.list_rules.config import FrequencyCap
from adbeam.records import ACTIONS, HOUR_MS, Action

IMPRESSION = ACTIONS.index(Action.IMPRESSION)
AHEAD_MS = 5 * 60_000
"""An event may be so far in the future: clocks differ."""


@dataclass(frozen=True, slots=True)
class Worn:
    """What a user has seen enough of for now, and what nobody is shown for now."""

    ads: frozenset[str] = frozenset()
    campaigns: frozenset[str] = frozenset()
    advertisers: frozenset[str] = frozenset()
    spent: frozenset[str] = frozenset()
    """Campaigns whose budget is spent, for everybody."""
    withheld: frozenset[str] = frozenset()
    """Kinds of caps (ad, campaign, advertiser) that nobody knows whether they are reached: what they may hold for is
    not shown."""

    def __bool__(self) -> bool:
        return bool(self.ads or self.campaigns or self.advertisers or self.spent or self.withheld)

    def refuses(self, item_id: str, owner: Owner) -> str | None:
        """The first cap that keeps an ad out; None where none does."""
        if item_id in self.ads:
            return "frequency_cap_ad"
        if owner.campaign in self.spent:
            return "budget"
        if owner.campaign in self.campaigns:
            return "frequency_cap_campaign"
        if owner.advertiser in self.advertisers:
            return "frequency_cap_advertiser"
        return "frequency_caps_unread" if self.withheld and self._is_withheld(owner) else None

    def _is_withheld(self, owner: Owner) -> bool:
        return any(kind == "ad" or getattr(owner, kind) for kind in self.withheld)


NOTHING_WORN = Worn()


class Events(Protocol):
    """The events of one user."""

    @property
    def item_ids(self) -> list[str]:
        """Of which items."""

    @property
    def timestamp_H(self) -> NDArray[np.int64]:
        """When, ms UTC."""

    @property
    def action_H(self) -> NDArray[np.int8]:
        """What the user did, as places in ACTIONS."""


def worn_by(events: Events, caps: Sequence[FrequencyCap], now_ms: int, owner: Callable[[str], Owner]) -> Worn:
    """What the user of these events has seen enough of; `owner` knows whose ads are now."""
    age_H = now_ms - events.timestamp_H
    shown = ((events.action_H == IMPRESSION) & (age_H > -AHEAD_MS)).nonzero()[0]
    if not len(shown):
        return NOTHING_WORN
    found: dict[str, set[str]] = {"ad": set(), "campaign": set(), "advertiser": set()}
    for cap in caps:
        inside = shown[age_H[shown] < cap.hours * HOUR_MS]
        if len(inside) < cap.most:
            continue
        items = [events.item_ids[place] for place in inside.tolist()]
        names = items if cap.of == "ad" else [getattr(owner(item), cap.of) for item in items]
        found[cap.of] |= {name for name, count in Counter(names).items() if name and count >= cap.most}
    worn = Worn(*(frozenset(names) for names in found.values()))
    return worn or NOTHING_WORN
