"""The popular ads of a bundle: what a request gets that is not decoded in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from adbeam.catalogue.blocked import EVERYTHING, Allowed, Blocked
from adbeam.catalogue.creatives.creative import UNDECLARED, Creative, Demands
from adbeam.catalogue.live import HeardEcpm, LiveEcpm
from adbeam.catalogue.owners import Owner
from adbeam.targeting.heard import HeardRules, KnownRules, is_for
from adbeam.targeting.told import Told

PopularAd = tuple[dict[str, Any], str | None, str | None]
"""The ad as the response carries it, its advertiser and its category."""


class PricesOfPopular(Protocol):
    """What popular ads are worth where the log tells."""

    def price(self, item_id: str, live: float | None, scene: str) -> float | None:
        """Money of a thousand impressions of an ad whose live eCPM is `live`."""


class PopularAds:
    """A short list of popular ads; `pick` applies a request's filters (its seen items are not looked up)."""

    def __init__(
        self,
        ads: list[PopularAd],
        is_live: Callable[[str], bool] | None = None,
        live_ecpm: LiveEcpm | None = None,
        prices: PricesOfPopular | None = None,
        rules: Mapping[str, str] | None = None,
        known_rules: KnownRules | None = None,
        creatives: Mapping[str, Creative] | None = None,
    ) -> None:
        """`ads` are (ad, advertiser, category), most popular first, each with the eCPM of the catalogue; `is_live`
        knows which may still be shown, `live_ecpm` what they earn now. Without `prices` that is what they are worth.
        `rules` are the targeting rules of the ads that have any, and `known_rules` knows what has changed since;
        `creatives` are those of the ads, where columns tell them."""
        self.ads, self.prices, self.rules, self.creatives = ads, prices, dict(rules or {}), dict(creatives or {})
        self._known_rules = known_rules or HeardRules()
        self._is_live, self._live_ecpm = is_live or (lambda item_id: True), live_ecpm or HeardEcpm()

    def pick(self, blocked: Blocked, count: int, scene: str = "", told: Told | None = None) -> list[dict[str, Any]]:
        """Up to `count` of the ads that the filters leave, and that are for a request which has `told` this."""
        return [ad for ad, _ in islice(self.left(blocked, scene, told), count)]

    def left(
        self, blocked: Blocked, scene: str = "", told: Told | None = None, allowed: Allowed = EVERYTHING,
        demands: Demands | None = None,
    ) -> Iterator[tuple[dict[str, Any], str | None]]:  # fmt: skip
        """All ads that the filters leave, each with its category, most popular first; with its creative, where a bid
        request has `demands`."""
        for ad, advertiser, category in self.ads:
            creative = self.creatives.get(ad["item_id"], UNDECLARED)
            if (
                ad["item_id"] not in blocked.item_ids
                and not (blocked and blocked.refused((advertiser, *creative.domains), (category, *creative.categories)))
                and self._is_live(ad["item_id"])
                and is_for(self._known_rules.rules(ad["item_id"], self.rules.get(ad["item_id"])), told)
                and (not allowed or allowed.refuses(ad["item_id"], Owner.of(ad), creative.domains) is None)
                and (demands is None or demands.fits(creative))
            ):
                now = self._now(ad, scene)
                yield (now if demands is None else {**now, "creative": creative}), category

    def _now(self, ad: dict[str, Any], scene: str) -> dict[str, Any]:
        """The ad with what it is worth now."""
        stored = ad["expected_ecpm"]
        worth = self._live_ecpm.ecpm(ad["item_id"], stored)
        if self.prices is not None:
            worth = self.prices.price(ad["item_id"], worth, scene)
        return ad if worth == stored else {**ad, "expected_ecpm": worth}
