"""Settings of the bid endpoint that cannot be are refused by name; notices and ids are made as they say."""

from __future__ import annotations

from typing import Any

import pytest

from adbeam.errors import UserError
from adbeam.serving.config import ServingConfig
from adbeam.serving.openrtb.config import OpenRtbConfig
from adbeam.serving.openrtb.money import bid_currency, floor_of
from adbeam.serving.openrtb.notices import filled
from adbeam.serving.openrtb.sources import ids_of, is_complete


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"nurl": "ads.example/win"}, "https://"),
        ({"nurl": "https://a.example/?p=${AUCTION_PRISE}"}, "AUCTION_PRICE"),
        ({"burl": "https://a.example/?i={item}"}, "item_id"),
        ({"rates": {"EUR": 0}}, "rates"), ({"rates": {"eur": 1.1}}, "rates"), ({"rates": {"USD": 1}}, "leave it out"),
        ({"deals": {"d": {"campaign": ["a"]}}}, "campaigns"), ({"deals": {"d": {"campaigns": []}}}, "campaigns"),
        ({"creatives": {"domain": "x"}}, "domains"), ({"default_format": "popup"}, "banner"),
        ({"supply_chain": "some"}, "complete"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(settings: Any, named: str) -> None:
    with pytest.raises(UserError, match=named):
        ServingConfig.parse({"openrtb": settings})


def test_a_notice_has_our_names_encoded_and_the_exchanges_macros_as_they_are() -> None:
    template = "https://a.example/w?i={item_id}&c={campaign}&p=${AUCTION_PRICE:B64}&x={bid_id}"
    url = filled(template, {"item_id": "a b&c", "bid_id": "r/1"})
    assert url == "https://a.example/w?i=a%20b%26c&c=&p=${AUCTION_PRICE:B64}&x=r%2F1"


def test_money_of_other_currencies_needs_a_rate() -> None:
    config = OpenRtbConfig.parse({"rates": {"EUR": 2.0}})
    assert bid_currency([], config) == ("USD", 1.0) == bid_currency(["EUR", "usd"], config)
    assert bid_currency(["CHF", "eur"], config) == ("EUR", 2.0) and bid_currency(["CHF"], config) is None
    assert floor_of(1.5, "eur", config) == 3.0 and floor_of(1.5, "CHF", config) is None
    assert floor_of(0.0, "CHF", config) == 0.0


def _ids(user: Any, sources: dict[str, str] | None = None) -> tuple[list[str], list[str]]:
    unread: list[str] = []
    return list(ids_of(user, sources or {"a.example": "", "b.example": "b:"}, unread.append)), unread


def test_ids_come_from_declared_sources_in_their_order() -> None:
    both = [{"source": "b.example", "uids": [{"id": 7}]}, {"source": "a.example", "uids": [{"id": "u"}]}]
    assert _ids({"eids": both}) == (["u", "b:7"], [])
    assert _ids({"ext": {"eids": both}}) == (["u", "b:7"], [])
    assert _ids({"eids": [7], "ext": {"eids": both}}) == (["u", "b:7"], ["user.eids"]), "one place hides not the other"
    assert _ids({"eids": both}, {"c.example": ""}) == ([], []) and _ids(None) == ([], [])


def test_eids_that_cannot_be_read_are_counted_and_bounded() -> None:
    assert _ids({"eids": "x"}) == ([], ["user.eids"])
    assert _ids({"eids": [3, {"source": "a.example", "uids": [{"id": "0"}, {}, {"id": "u"}]}]}) == (
        ["u"], ["user.eids", "user.eids.uids", "user.eids.uids"],
    )  # fmt: skip
    many = [{"source": "x.example", "uids": [{"id": "u"}]}] * 10_000
    assert _ids({"eids": [*many, {"source": "a.example", "uids": [{"id": "u"}]}]}) == ([], ["user.eids"])


@pytest.mark.parametrize(
    ("chain", "complete"),
    [
        ({"complete": 1, "nodes": [{"asi": "a", "sid": "1"}]}, True),
        ({"complete": "1", "nodes": [{"asi": "a", "sid": "1"}]}, True),
        ({"complete": 0, "nodes": [{"asi": "a", "sid": "1"}]}, False), ({"complete": 1, "nodes": []}, False),
        ({"complete": 1, "nodes": [{"asi": "a"}]}, False), ({"complete": 1}, False), ("x", False), (None, False),
        ({"complete": 1, "nodes": [{"asi": "a", "sid": "1"}] * 101}, False),
    ],
)  # fmt: skip
def test_a_supply_chain_is_complete_where_it_names_its_sellers(chain: Any, complete: bool) -> None:
    assert is_complete({"schain": chain}, lambda field: None) is complete
    assert is_complete({"ext": {"schain": chain}}, lambda field: None) is complete
