"""The bids on the places of a request: which ad for which place, at which price and by which deal, as OpenRTB names it.

What is told of a creative comes from declared columns; what no column tells stays away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adbeam.catalogue.creatives.creative import FORMATS, Creative
from adbeam.recorder import Recorder
from adbeam.serving.openrtb.config import FIRST_TAXONOMY, OpenRtbConfig
from adbeam.serving.openrtb.money import Money
from adbeam.serving.openrtb.notices import filled
from adbeam.serving.openrtb.places import Deal, Place

Bid = dict[str, Any]
DOMAINS_NAMED = 16
"""Domains and categories that one bid names."""


@dataclass
class Bidding:
    """The bids of one response as they are found: the best ad that is left for each place, dearest floors first; none
    below a floor, no ad twice."""

    request_id: str
    config: OpenRtbConfig
    money: Money
    metrics: Recorder
    is_worth_bidding: Callable[[str], bool]
    found: list[Bid] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def fill(self, places: Iterable[Place], ads: Sequence[dict[str, Any]]) -> None:
        """Bid on places with these ads: an ad above the operator's ceiling is bid at it, one without a price or that is
        not worth it is not bid; the order of ads is that of their own prices."""
        valued = (ad for ad in ads if ad["expected_ecpm"] and self.is_worth_bidding(ad["item_id"]))
        priced = sorted(valued, key=_worth, reverse=True)
        for place in sorted(places, key=lambda place: -place.bidfloor):
            self._bid(place, priced)

    def _bid(self, place: Place, priced: Sequence[dict[str, Any]]) -> None:
        is_cheap = False
        for ad in priced:
            creative = Creative.of(ad)
            if ad["item_id"] in self.taken or not place.fits(creative):
                continue
            worth = min(_worth(ad), self._ceiling)
            is_cheap |= worth < self.config.price_min_cpm
            offer = self._offer(place, ad, creative, worth)
            if offer is None:
                if not place.deals:
                    break  # all that follow are cheaper
                continue
            price, deal = offer
            if worth < _worth(ad):
                self.metrics.add("adbeam_bids_bounded", reason="capped")
            self.taken.add(ad["item_id"])
            self.found.append(self._made(place, ad, creative, price, deal))
            return
        if is_cheap:
            self.metrics.add("adbeam_bids_bounded", reason="below_floor")

    @property
    def _ceiling(self) -> float:
        return math.inf if self.config.price_max_cpm is None else self.config.price_max_cpm

    def _offer(self, place: Place, ad: Mapping[str, Any], creative: Creative, worth: float
               ) -> tuple[float, Deal | None] | None:  # fmt: skip
        """(price, deal) of an ad on a place: by the first deal that takes it, else openly."""
        for deal in place.deals:
            price = deal.price(worth) if deal.takes(ad, creative) else None
            if price is not None and self.config.price_min_cpm <= price:
                return price, deal
        if place.is_open and worth >= max(place.bidfloor, self.config.price_min_cpm):
            return worth, None
        return None

    def _made(self, place: Place, ad: Mapping[str, Any], creative: Creative, price: float, deal: Deal | None) -> Bid:
        bid_id = f"{self.request_id}-{len(self.found) + 1}"
        item_id = ad["item_id"]
        bid: Bid = {
            "id": bid_id,
            "impid": place.id,
            "price": round(price / self.money.rate, 6),
            "adid": item_id,
            "crid": creative.creative_id or item_id,
        }
        if deal is not None:
            bid["dealid"] = deal.id
        config = self.config
        if config.nurl or config.burl or config.lurl:
            names = {"item_id": item_id, "campaign": ad.get("campaign") or "", "request_id": self.request_id,
                     "imp_id": place.id, "bid_id": bid_id}  # fmt: skip
            notices = {"nurl": config.nurl, "burl": config.burl, "lurl": config.lurl}
            bid |= {name: filled(template, names) for name, template in notices.items() if template is not None}
        if (expires := creative.expires_seconds or config.expires_seconds) is not None:
            bid["exp"] = expires
        return bid | _told(creative, config) if config.creatives.named else bid


def _told(creative: Creative, config: OpenRtbConfig) -> Bid:
    """What columns tell of a creative."""
    shape = creative.shape
    told: dict[str, Any] = {
        "adomain": [*creative.domains[:DOMAINS_NAMED]] or None,
        "bundle": creative.app,
        "cat": [*creative.categories[:DOMAINS_NAMED]] or None,
        "cattax": config.cattax if creative.categories and config.cattax != FIRST_TAXONOMY else None,
        "attr": sorted(shape.attributes or ()) or None,
        "w": shape.width,
        "h": shape.height,
        "mtype": FORMATS.index(shape.format) + 1 if shape.format in FORMATS else None,
        "dur": None if shape.duration_seconds is None or shape.duration_seconds < 0 else int(shape.duration_seconds),
    }
    return {name: value for name, value in told.items() if value is not None}


def _worth(ad: Mapping[str, Any]) -> float:
    return float(ad["expected_ecpm"])
