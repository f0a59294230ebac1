"""OpenRTB 2.6: bid requests in, bids out, over the same service as /v1/ads.

What is read of a bid request is modelled; other fields of the specification are let pass, as it demands. An impression
becomes a slot: its `tagid` names the scene where it is one, impressions of one scene share a decode, and no ad is bid
twice. Prices are expected eCPM, which is what OpenRTB's CPM prices are. Creatives are the exchange's to keep: `crid` is
the ad's item id. No-bid reasons are those of AdCOM 1.0. The operator's floor and ceiling bound every price, whatever
found the ad: model, cache or fallback.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from adbeam.identity.people import USER_ID_READ, known_user
from adbeam.recorder import Recorder
from adbeam.serving.bid_features import GivenPlaces, features_of_bid, parts_of, places_of
from adbeam.serving.config import LimitsConfig, OpenRtbConfig, ServingConfig
from adbeam.serving.http.bodies import Body
from adbeam.serving.privacy import PrivacyGate
from adbeam.targeting.features import Features

VERSION = "2.6"
TECHNICAL_ERROR, INVALID_REQUEST, INSUFFICIENT_TIME = 1, 2, 15
SPARE = 4
"""Ads asked for each impression: some are below a floor, some are bid for another impression."""

NAME_LENGTH, TAG_LENGTH, CATEGORY_LENGTH, CURRENCY_LENGTH = 128, 256, 256, 3
FLOOR_MAX = 1e9

Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LENGTH)]
Category = Annotated[str, StringConstraints(min_length=1, max_length=CATEGORY_LENGTH)]
Currency = Annotated[str, StringConstraints(min_length=CURRENCY_LENGTH, max_length=CURRENCY_LENGTH)]


class _Tolerant(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Impression(_Tolerant):
    """One slot."""

    id: Name
    tagid: str | None = Field(None, max_length=TAG_LENGTH, description="The scene, where it is one of the bundle's.")
    bidfloor: float = Field(0.0, ge=0, le=FLOOR_MAX, allow_inf_nan=False, description="Least price, CPM.")
    bidfloorcur: str = Field("USD", min_length=CURRENCY_LENGTH, max_length=CURRENCY_LENGTH)


class RtbUser(_Tolerant):
    """Who sees the page; `buyeruid` is the name this bidder gave the user."""

    id: str | None = Field(None, max_length=USER_ID_READ)
    buyeruid: str | None = Field(None, max_length=USER_ID_READ)
    consent: Any = Field(None, description="TCF string (docs/privacy.md).")
    ext: Any = Field(None, description="`consent`, as OpenRTB 2.5 has it. Declared features.")


class BidRequest(_Tolerant):
    """The part of an OpenRTB 2.6 BidRequest that is read."""

    id: Name
    imp: list[Impression] = Field(min_length=1)
    user: RtbUser | None = None
    device: Any = Field(None, description="`lmt` or `dnt` of 1: the user is not looked up. Declared features of it.")
    regs: Any = Field(
        None,
        description="`coppa`, `gdpr`, `gpp`, `gpp_sid`, `us_privacy` and `gpc`, also in `ext`, say whether the user is "
        "looked up (docs/privacy.md).",
    )
    tmax: int | None = Field(None, ge=1, description="Time for the answer in ms, the way through the network included.")
    cur: list[Currency] = Field(default_factory=list)
    bcat: list[Category] = Field(default_factory=list)
    badv: list[Name] = Field(default_factory=list)
    test: int = Field(0, description="1: a test, answered as any other and not logged.")


class Bid(BaseModel):
    """An offer for one impression."""

    id: str
    impid: str
    price: float = Field(description="CPM: the expected eCPM of the ad for this user, at most the operator's ceiling.")
    adid: str
    crid: str


class SeatBid(BaseModel):
    """The bids of one seat."""

    bid: list[Bid]
    seat: str


class BidResponse(BaseModel):
    """Bids, or the reason for none."""

    id: str
    seatbid: list[SeatBid] | None = None
    cur: str | None = None
    nbr: int | None = Field(
        None, description="AdCOM no-bid reason: 1 technical error, 2 invalid request, 15 insufficient auction time."
    )


@dataclass(frozen=True)
class Slots:
    """Impressions that share a decode, and the fields of the AdRequest that fills them."""

    impressions: tuple[Impression, ...]
    fields: dict[str, Any]


class _OpenUser(RtbUser):
    """With all that the exchange sends, for the features that lie in it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


def bid_model(
    limits: LimitsConfig, features: Features | None = None, places: GivenPlaces = MappingProxyType({})
) -> type[BidRequest]:
    """BidRequest with this replica's bounds, and the parts in which the declared features lie."""
    bounded: dict[str, Any] = {
        name: (BidRequest.model_fields[name].annotation, Field(default_factory=list, max_length=limits.filter_max))
        for name in ("bcat", "badv")
    }
    parts = parts_of(places_of(features or {}, places))
    if "user" in parts:
        bounded["user"] = (_OpenUser | None, None)
    bounded |= {name: (Any, Field(None, description="Declared features.")) for name in ("site", "app") if name in parts}
    imp = (list[Impression], Field(min_length=1, max_length=limits.impressions_max))
    return create_model("BidRequest", __base__=BidRequest, imp=imp, **bounded)


class Bidder(Protocol):
    """What must be known of a model to bid with it."""

    @property
    def scenes(self) -> tuple[str, ...]:
        """Its scenes."""

    @property
    def may_bid(self) -> bool:
        """Whether its prices are CPM."""

    @property
    def nobody_words(self) -> frozenset[str]:
        """User ids that mean nobody."""


def slots(request: BidRequest, model: Bidder, serving: ServingConfig, metrics: Recorder) -> list[Slots]:
    """What to ask for; impressions with a floor in another currency are left out, as is all where only others pay or
    where the model's prices are no CPM.

    Of impressions with one id the first counts.
    """
    config, scenes = serving.openrtb, model.scenes
    if not model.may_bid:
        metrics.add("adbeam_bids_bounded", len(request.imp), reason="no_unit")
        return []
    if request.cur and config.currency not in map(str.upper, request.cur):
        return []
    by_scene: dict[str, list[Impression]] = {}
    taken: set[str] = set()
    for impression in request.imp:
        if impression.id in taken:
            continue
        taken.add(impression.id)
        if impression.bidfloor == 0 or impression.bidfloorcur.upper() == config.currency:
            scene = impression.tagid if impression.tagid is not None and impression.tagid in scenes else scenes[0]
            by_scene.setdefault(scene, []).append(impression)
    is_private = PrivacyGate(serving.privacy, metrics).forbids_bid(request)
    user = RtbUser() if request.user is None or is_private else request.user
    common: dict[str, Any] = {
        "user_id": known_user(user.buyeruid, model.nobody_words) or known_user(user.id, model.nobody_words),
        "filters": {"blocked_advertisers": request.badv, "blocked_categories": request.bcat},
    }
    if serving.features:
        places = places_of(serving.features, config.features)
        common |= features_of_bid(request, serving.features, places, metrics, private=is_private)
    return [
        Slots(tuple(imps), {**common, "scene": scene, "count": min(SPARE * len(imps), serving.limits.count_max)})
        for scene, imps in by_scene.items()
    ]


def bid_response(
    request_id: str, filled: Iterable[tuple[Slots, Body]], config: OpenRtbConfig, metrics: Recorder,
    is_worth_bidding: Callable[[str], bool],
) -> BidResponse | None:  # fmt: skip
    """The bids on what the slots were filled with; None where nothing is bid."""
    found = bids(request_id, filled, config, metrics, is_worth_bidding)
    if not found:
        return None
    return BidResponse(id=request_id, seatbid=[SeatBid(bid=found, seat=config.seat)], cur=config.currency)


def bids(
    request_id: str, filled: Iterable[tuple[Slots, Body]], config: OpenRtbConfig, metrics: Recorder,
    is_worth_bidding: Callable[[str], bool],
) -> list[Bid]:  # fmt: skip
    """The best ad that is left for each impression, dearest floors first; none below a floor, no ad twice.

    An ad above the operator's ceiling is bid at it; the order of ads is that of their own prices. An ad
    without a price is not bid, nor one that is not worth it, whatever price it was found at.
    """
    ceiling = math.inf if config.price_max_cpm is None else config.price_max_cpm
    taken: set[str] = set()
    found: list[Bid] = []
    for part, body in filled:
        valued = (ad for ad in body["ads"] if ad["expected_ecpm"] and is_worth_bidding(ad["item_id"]))
        priced = sorted(valued, key=_price, reverse=True)
        for impression in sorted(part.impressions, key=lambda impression: -impression.bidfloor):
            ad = next((ad for ad in priced if ad["item_id"] not in taken), None)
            if ad is None:
                continue
            price = min(_price(ad), ceiling)
            if price < config.price_min_cpm:
                metrics.add("adbeam_bids_bounded", reason="below_floor")
            if price < max(impression.bidfloor, config.price_min_cpm):
                continue
            if price < _price(ad):
                metrics.add("adbeam_bids_bounded", reason="capped")
            taken.add(ad["item_id"])
            name = f"{request_id}-{len(found) + 1}"
            found.append(
                Bid(id=name, impid=impression.id, price=round(price, 6), adid=ad["item_id"], crid=ad["item_id"])
            )
    return found


def _price(ad: dict[str, Any]) -> float:
    return float(ad["expected_ecpm"])
