"""A place of a bid request: the formats it takes, its floor, and the private deals that it may be bid on by.

Restrictions err on the strict side: a flag that cannot be read is set, a seat list without a readable entry names none
of ours, a deal whose floor cannot be read is not bid on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adbeam.catalogue.blocked import names_any
from adbeam.catalogue.creatives.creative import FORMATS, Creative, Demands, Format, Wanted
from adbeam.consent.signals import is_set
from adbeam.errors import UserError, nearest_name
from adbeam.identity.names import folded
from adbeam.serving.openrtb.config import DealConfig, OpenRtbConfig
from adbeam.serving.openrtb.impression import NAME_LENGTH, Impression
from adbeam.serving.openrtb.money import floor_of
from adbeam.serving.openrtb.values import Unread, codes, number, part, texts, whole

DEALS_READ, SIZES_READ = 100, 100
"""Deals of one impression and sizes of one banner that are read."""
FIXED_PRICE = 3
"""AdCOM auction type: the floor is the price that was agreed on."""
DEFAULT_CURRENCY = "USD"
NOTHING: tuple[Any, ...] = (None, [], "")
"""A list that restricts nothing."""


@dataclass(frozen=True, slots=True)
class Deal:
    """A deal of a place that the operator declares; its floor is in the configured currency."""

    id: str
    floor: float
    is_fixed: bool
    domains: frozenset[str] | None
    """Domains of advertisers that alone may bid on it."""
    config: DealConfig

    def takes(self, ad: Mapping[str, Any], creative: Creative) -> bool:
        """Whether an ad may be bid on it."""
        if self.config.campaigns is not None and ad.get("campaign") not in self.config.campaigns:
            return False
        return self.domains is None or names_any(self.domains, (ad.get("advertiser"), *creative.domains))

    def price(self, worth: float) -> float | None:
        """What to bid on it for an ad of so much worth: the price that was agreed on, or the worth; None: nothing."""
        price = self.floor if self.is_fixed else worth
        return price if self.floor <= worth and self.config.price_min_cpm <= price else None


@dataclass(frozen=True, slots=True)
class Place:
    """One impression, with its floor in the configured currency."""

    id: str
    bidfloor: float = 0.0
    wanted: tuple[Wanted, ...] = ()
    """The formats it takes; none: any."""
    deals: tuple[Deal, ...] = ()
    is_open: bool = True
    """Whether it may be bid on without a deal."""

    def fits(self, creative: Creative) -> bool:
        """Whether an ad may be shown there."""
        return not self.wanted or any(wanted.fits(creative.shape) for wanted in self.wanted)


def place_of(impression: Impression, config: OpenRtbConfig, unread: Unread) -> Place | str:
    """The place of an impression, or why it cannot be bid on: currency, format or deal."""
    floor = floor_of(impression.bidfloor, impression.bidfloorcur, config)
    formats = _formats(impression, unread)
    if formats and config.creatives.format is None and config.default_format is not None:
        formats = [each for each in formats if each[0] == config.default_format]
        if not formats:
            return "format"
    # what no column tells need not be read
    wanted = tuple(_wanted(*each, unread) for each in formats) if config.creatives.named else ()
    if impression.pmp is None:
        return "currency" if floor is None else Place(impression.id, floor, wanted)
    deals, is_private = _deals(impression.pmp, config, unread)
    if is_private and not deals:
        return "deal"
    if floor is None and not deals:
        return "currency"
    return Place(impression.id, floor or 0.0, wanted, deals, not is_private and floor is not None)


def scene_of(tagid: str | None, config: OpenRtbConfig, scenes: Sequence[str]) -> str:
    """The scene of an impression: what the operator says of its tagid, the tagid itself where it is one, or the
    default."""
    scene = config.scenes.get(tagid, tagid) if tagid is not None else None
    if scene is not None and scene in scenes:
        return scene
    return config.default_scene if config.default_scene is not None else scenes[0]


def check_scenes(config: OpenRtbConfig, scenes: Sequence[str], version: str) -> None:
    """Raise UserError for a scene of the settings that bundle `version` does not know."""
    named = [(f"scenes.{tagid}", scene) for tagid, scene in config.scenes.items()]
    for place, scene in [*named, ("default_scene", config.default_scene)]:
        if scene is not None and scene not in scenes:
            raise UserError(
                f"bundle {version} knows no such scene",
                field=f"openrtb.{place}",
                value=scene,
                remedy=f"did you mean {nearest_name(scene, scenes)!r}? name one of the bundle's {len(scenes)}",
            )


def seats_allow(seat: str, allowed: Any, blocked: Any, unread: Unread) -> bool:
    """Whether a request's `wseat` and `bseat` let our seat bid."""
    if allowed not in NOTHING and seat not in texts(allowed, "wseat", unread):
        return False
    return blocked in NOTHING or seat not in texts(blocked, "bseat", unread)


def demands_of(place: Place, blocked_apps: list[str], must_be_named: bool, must_be_listed: bool,
               config: OpenRtbConfig) -> Demands | None:  # fmt: skip
    """What a place demands of ads; None where no column tells anything of them."""
    columns = config.creatives
    if not columns.named:
        return None
    apps = frozenset(map(folded, blocked_apps)) if columns.app else frozenset()
    return Demands(
        place.wanted, apps, must_be_named and columns.domains is not None,
        must_be_listed and columns.categories is not None,
    )  # fmt: skip


def allowed_by(place: Place, most: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(filter of an AdRequest, its list) that leave what a place's deals take, where it can be bid on by deals alone;
    at most so many names in each."""
    if place.is_open:
        return ()
    found = []
    if all(deal.config.campaigns is not None for deal in place.deals):
        campaigns = dict.fromkeys(name for deal in place.deals for name in deal.config.campaigns or ())
        found.append(("allowed_campaigns", tuple(campaigns)[:most]))
    if all(deal.domains is not None for deal in place.deals):
        domains = dict.fromkeys(name for deal in place.deals for name in sorted(deal.domains or ()))
        found.append(("allowed_advertisers", tuple(name for name in domains if len(name) <= NAME_LENGTH)[:most]))
    return tuple(found)


def _formats(impression: Impression, unread: Unread) -> list[tuple[Format, Mapping[str, Any]]]:
    """The formats that an impression takes, with what it says of them."""
    found: list[tuple[Format, Mapping[str, Any]]] = []
    for name in FORMATS:
        value = getattr(impression, name)
        if value is not None and (asked := part(value, f"imp.{name}", unread)) is not None:
            found.append((name, asked))
    return found


def _wanted(name: Format, asked: Mapping[str, Any], unread: Unread) -> Wanted:
    place = f"imp.{name}"
    attributes = codes(asked.get("battr"), f"{place}.battr", unread)
    if name == "native":
        return Wanted(name, blocked_attributes=attributes)
    mimes = frozenset(map(folded, texts(asked.get("mimes"), f"{place}.mimes", unread)))
    if name == "banner":
        types = codes(asked.get("btype"), f"{place}.btype", unread)
        return Wanted(name, _sizes(asked, unread), mimes, attributes, types)
    least = number(asked.get("minduration"), f"{place}.minduration", unread)
    most = number(asked.get("maxduration"), f"{place}.maxduration", unread)
    return Wanted(name, frozenset(), mimes, attributes, frozenset(), least, most or None)


def _sizes(banner: Mapping[str, Any], unread: Unread) -> frozenset[tuple[int, int]]:
    """The sizes of `format`, and the banner's own; none where none can be read: any size."""
    formats = banner.get("format")
    if formats is not None and not isinstance(formats, list):
        unread("imp.banner.format")
        formats = None
    found = set()
    for each in [banner, *(formats or [])[:SIZES_READ]]:
        if not isinstance(each, dict):
            unread("imp.banner.format")
            continue
        width, height = (whole(each.get(name), f"imp.banner.{name}", unread) for name in ("w", "h"))
        if width and height:
            found.add((width, height))
    return frozenset(found)


def _deals(pmp: Any, config: OpenRtbConfig, unread: Unread) -> tuple[tuple[Deal, ...], bool]:
    """(The deals of ours, whether nothing else may be bid)."""
    if not isinstance(pmp, dict):
        unread("imp.pmp")
        return (), is_set(pmp)
    listed = pmp.get("deals")
    if not isinstance(listed, list):
        if listed is not None:
            unread("imp.pmp.deals")
        listed = []
    found = []
    for each in listed[:DEALS_READ]:
        deal = part(each, "imp.pmp.deals", unread)
        if deal is not None and (ours := _deal(deal, config, unread)) is not None:
            found.append(ours)
    return tuple(found), is_set(pmp.get("private_auction"))


def _deal(deal: Mapping[str, Any], config: OpenRtbConfig, unread: Unread) -> Deal | None:
    place = "imp.pmp.deals"
    (deal_id,) = texts(deal.get("id"), f"{place}.id", unread)[:1] or [""]
    declared = config.deals.get(deal_id)
    if declared is None or not seats_allow(config.seat, deal.get("wseat"), None, unread):
        return None
    named = deal.get("wadomain")
    domains = None if named in NOTHING else frozenset(texts(named, f"{place}.wadomain", unread))
    asked = number(deal.get("bidfloor"), f"{place}.bidfloor", unread)
    if domains == frozenset() or (asked is None and deal.get("bidfloor") is not None):
        return None
    currency = deal.get("bidfloorcur")
    floor = floor_of(asked or 0.0, currency if isinstance(currency, str) and currency else DEFAULT_CURRENCY, config)
    if floor is None:
        return None
    is_fixed = whole(deal.get("at"), f"{place}.at", unread) == FIXED_PRICE
    return Deal(deal_id, floor, is_fixed and floor > 0, domains, declared)
