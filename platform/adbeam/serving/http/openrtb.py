"""OpenRTB 2.6: bid requests in, bids out, over the same service as /v1/ads.

What is read of a bid request is modelled; other fields of the specification are let pass, as it demands
(docs/openrtb.md). An impression becomes a slot: its `tagid` names the scene, impressions of one scene
that demand the same of ads share a decode, and no ad is bid twice. Prices are expected eCPM, which is what CPM prices
are. Creatives are the exchange's to keep. No-bid reasons are those of AdCOM 1.0. The operator's floor and ceiling bound
every price, whatever found the ad: model, cache or fallback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, create_model

from adbeam.catalogue.creatives.creative import Demands
from adbeam.identity.people import USER_ID_READ, known_user
from adbeam.recorder import Recorder
from adbeam.serving.bid_features import GivenPlaces, features_of_bid, parts_of, places_of
from adbeam.serving.config import LimitsConfig, ServingConfig
from adbeam.serving.http.bodies import Body
from adbeam.serving.openrtb.bids import Bidding
from adbeam.serving.openrtb.config import FIRST_TAXONOMY, OpenRtbConfig
from adbeam.serving.openrtb.impression import Category, CurrencyWord, Impression, Name, Tolerant
from adbeam.serving.openrtb.money import Money, bid_currency
from adbeam.serving.openrtb.places import Place, allowed_by, demands_of, place_of, scene_of, seats_allow
from adbeam.serving.openrtb.sources import ids_of, is_complete
from adbeam.serving.openrtb.values import whole
from adbeam.serving.privacy import PrivacyGate
from adbeam.targeting.features import Features

VERSION = "2.6"
TECHNICAL_ERROR, INVALID_REQUEST, INSUFFICIENT_TIME = 1, 2, 15
SPARE = 4
"""Ads asked for each impression: some are below a floor, some are bid for another impression."""


class RtbUser(Tolerant):
    """Who sees the page; `buyeruid` is the name this bidder gave the user."""

    id: str | None = Field(None, max_length=USER_ID_READ)
    buyeruid: str | None = Field(None, max_length=USER_ID_READ)
    eids: Any = Field(None, description="Ids of other sources, of which openrtb.eids declares some.")
    consent: Any = Field(None, description="TCF string (docs/privacy.md).")
    ext: Any = Field(None, description="`consent` and `eids`, as OpenRTB 2.5 has them. Declared features.")


class BidRequest(Tolerant):
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
    cur: list[CurrencyWord] = Field(default_factory=list)
    bcat: list[Category] = Field(default_factory=list)
    badv: list[Name] = Field(default_factory=list)
    bapp: list[Name] = Field(default_factory=list)
    cattax: Any = Field(None, description="Taxonomy of `bcat`; 1 where it is absent.")
    wseat: Any = Field(None, description="Seats that alone may bid.")
    bseat: Any = Field(None, description="Seats that may not bid.")
    source: Any = Field(None, description="`schain`: who sells; also in its `ext`.")
    test: int = Field(0, description="1: a test, answered as any other and not logged.")


class Bid(BaseModel):
    """An offer for one impression. What a creative is stands there where columns of the catalogue tell it."""

    id: str
    impid: str
    price: float = Field(description="CPM: the expected eCPM of the ad for this user, at most the operator's ceiling.")
    adid: str
    crid: str
    dealid: str | None = Field(None, description="The deal that it is bid by.")
    nurl: str | None = Field(None, description="Win notice, with macros that the exchange fills.")
    burl: str | None = Field(None, description="Billing notice, the same.")
    lurl: str | None = Field(None, description="Loss notice, the same.")
    exp: int | None = Field(None, description="Seconds that the bid stands.")
    adomain: list[str] | None = Field(None, description="Domains of the advertiser.")
    bundle: str | None = Field(None, description="The advertised application.")
    cat: list[str] | None = Field(None, description="Categories of the ad.")
    cattax: int | None = Field(None, description="Their taxonomy; absent: 1.")
    attr: list[int] | None = Field(None, description="Attributes of the creative.")
    w: int | None = Field(None, description="Pixels.")
    h: int | None = Field(None, description="Pixels.")
    mtype: int | None = Field(None, description="1 banner, 2 video, 3 audio, 4 native.")
    dur: int | None = Field(None, description="Seconds of a video or audio ad.")


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
    """Places that share a decode, the fields of the AdRequest that fills them, and what they demand of ads."""

    places: tuple[Place, ...]
    fields: dict[str, Any]
    money: Money
    demands: Demands | None = None


class _OpenUser(RtbUser):
    """With all that the exchange sends, for the features that lie in it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


def bid_model(
    limits: LimitsConfig, features: Features | None = None, places: GivenPlaces = MappingProxyType({})
) -> type[BidRequest]:
    """BidRequest with this replica's bounds, and the parts in which the declared features lie."""
    bounded: dict[str, Any] = {
        name: (BidRequest.model_fields[name].annotation, Field(default_factory=list, max_length=limits.filter_max))
        for name in ("bcat", "badv", "bapp")
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
    """What to ask for; nothing where the model's prices are no CPM, or where the request wants none of our bids.

    Left out are impressions that cannot be bid on: a floor in a currency without a rate, a format that no ad has, a
    private auction without a deal of ours. Of impressions with one id the first counts.
    """
    config, scenes = serving.openrtb, model.scenes
    unread = partial(_unread, metrics)
    money = bid_currency(request.cur, config)
    why = "no_unit" if not model.may_bid else _refused(request, config, unread)
    if why is not None or money is None:
        metrics.add("adbeam_bids_bounded", len(request.imp), reason=why or "currency")
        return []
    by_group: dict[tuple[Any, ...], list[Place]] = {}
    taken: set[str] = set()
    for impression in request.imp:
        if impression.id in taken:
            continue
        taken.add(impression.id)
        place = place_of(impression, config, unread)
        if isinstance(place, str):
            metrics.add("adbeam_bids_bounded", reason=place)
            continue
        scene = scene_of(impression.tagid, config, scenes)
        demands = demands_of(place, request.bapp, bool(request.badv), bool(request.bcat), config)
        alone = allowed_by(place, serving.limits.filter_max)
        by_group.setdefault((scene, demands, alone), []).append(place)
    is_private = PrivacyGate(serving.privacy, metrics).forbids_bid(request)
    user = RtbUser() if request.user is None or is_private else request.user
    ids = (user.buyeruid, *ids_of(user, config.eids, unread), user.id)
    common: dict[str, Any] = {
        "user_id": next((known for each in ids if (known := known_user(each, model.nobody_words))), None)
    }
    blocked = {"blocked_advertisers": request.badv, "blocked_categories": request.bcat}
    if serving.features:
        places = places_of(serving.features, config.features)
        common |= features_of_bid(request, serving.features, places, metrics, private=is_private)
    return [
        Slots(
            tuple(each),
            {
                **common,
                "scene": scene,
                "count": min(SPARE * len(each), serving.limits.count_max),
                "filters": {**blocked, **{name: [*named] for name, named in alone}},
            },
            money,
            demands,
        )
        for (scene, demands, alone), each in by_group.items()
    ]


def _unread(metrics: Recorder, field: str) -> None:
    metrics.add("adbeam_bid_fields_unread", field=field)


def _refused(request: BidRequest, config: OpenRtbConfig, unread: Callable[[str], None]) -> str | None:
    """Why nothing may be bid on a request; None where something may."""
    if not (request.wseat is None and request.bseat is None) and not seats_allow(
        config.seat, request.wseat, request.bseat, unread
    ):
        return "seat"
    if config.supply_chain == "complete" and not is_complete(request.source, unread):
        return "supply_chain"
    if request.bcat and config.creatives.categories is not None:
        taxonomy = FIRST_TAXONOMY if request.cattax is None else whole(request.cattax, "cattax", unread)
        if taxonomy != config.cattax:
            return "taxonomy"
    return None


def bid_response(
    request_id: str, filled: Iterable[tuple[Slots, Body]], config: OpenRtbConfig, metrics: Recorder,
    is_worth_bidding: Callable[[str], bool],
) -> dict[str, Any] | None:  # fmt: skip
    """A BidResponse with the bids on what the slots were filled with; None where nothing is bid."""
    bidding: Bidding | None = None
    for part, body in filled:
        bidding = bidding or Bidding(request_id, config, part.money, metrics, is_worth_bidding)
        bidding.fill(part.places, body["ads"])
    if bidding is None or not bidding.found:
        return None
    seatbid = [{"bid": bidding.found, "seat": config.seat}]
    return {"id": request_id, "seatbid": seatbid, "cur": bidding.money.currency}
