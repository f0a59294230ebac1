"""OpenRTB: which impressions get which ad at which price."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from adbeam.errors import UserError
from adbeam.identity.people import NOBODY_WORDS
from adbeam.serving.config import LimitsConfig, ServingConfig
from adbeam.serving.http.openrtb import Bid, BidRequest, bid_model, bid_response, slots
from adbeam.serving.monitoring.metrics import METRICS, Metrics
from adbeam.serving.openrtb.config import OpenRtbConfig

SCENES = ("feed", "search")


class Model(NamedTuple):
    """What slots ask of a model."""

    scenes: tuple[str, ...]
    may_bid: bool = True
    nobody_words: frozenset[str] = NOBODY_WORDS


def request(**fields: Any) -> BidRequest:
    return bid_model(LimitsConfig()).model_validate({"id": "r", "imp": [{"id": "1"}], **fields})


def parts(count_max: int = 100, **fields: Any) -> list[Any]:
    serving = ServingConfig.parse({"limits": {"count_max": count_max}})
    return slots(request(**fields), Model(SCENES), serving, Metrics())


def answer(**prices: float | None) -> dict[str, Any]:
    return {"ads": [{"item_id": name, "expected_ecpm": price} for name, price in prices.items()]}


def offered(
    filled: list[Any], metrics: Metrics | None = None, worthless: tuple[str, ...] = (), **bounds: Any
) -> list[Any]:
    config = OpenRtbConfig.parse(bounds)
    found = bid_response("r", filled, config, metrics or Metrics(), lambda item_id: item_id not in worthless)
    return [] if found is None else [Bid.model_validate(bid) for bid in found["seatbid"][0]["bid"]]


def test_impressions_of_a_scene_share_a_decode_and_unknown_places_are_the_first_scene() -> None:
    found = parts(imp=[{"id": "1"}, {"id": "2", "tagid": "search"}, {"id": "3", "tagid": "elsewhere"}])
    assert [(part.fields["scene"], [i.id for i in part.places]) for part in found] == [
        ("feed", ["1", "3"]),
        ("search", ["2"]),
    ]
    assert [part.fields["count"] for part in found] == [8, 4]
    assert [part.fields["count"] for part in parts(5, imp=[{"id": "1"}, {"id": "2"}])] == [5]


def test_the_buyers_own_name_for_the_user_wins_and_blocks_become_filters() -> None:
    fields = parts(user={"id": "exchange", "buyeruid": "ours"}, badv=["rude.example"], bcat=["IAB1"])[0].fields
    assert fields["user_id"] == "ours"
    assert fields["filters"] == {"blocked_advertisers": ["rude.example"], "blocked_categories": ["IAB1"]}
    assert parts(user={"id": "exchange"})[0].fields["user_id"] == "exchange"
    assert parts(user={"id": ""})[0].fields["user_id"] is None and parts()[0].fields["user_id"] is None


def test_other_currencies_are_not_bid_in() -> None:
    assert parts(cur=["EUR"]) == [] and len(parts(cur=["EUR", "USD"])) == 1
    assert parts(imp=[{"id": "1", "bidfloor": 0.5, "bidfloorcur": "EUR"}]) == []
    assert len(parts(imp=[{"id": "1", "bidfloorcur": "EUR"}])) == 1, "a floor of nothing is one in any currency"


def test_the_dearest_floor_gets_the_best_ad_and_no_ad_is_bid_twice() -> None:
    part = parts(imp=[{"id": "low", "bidfloor": 0.5}, {"id": "high", "bidfloor": 2.5}, {"id": "over", "bidfloor": 9}])[
        0
    ]
    found = offered([(part, answer(a=1.0, b=3.0, c=0.2))])
    assert [(bid.impid, bid.crid, bid.price) for bid in found] == [("high", "b", 3.0), ("low", "a", 1.0)]
    assert len({bid.id for bid in found}) == 2


def test_an_ad_of_another_scene_is_not_bid_again_and_one_without_a_price_never() -> None:
    found = parts(imp=[{"id": "1"}, {"id": "2", "tagid": "search"}])
    same = answer(a=1.0, b=None)
    assert [bid.impid for bid in offered([(found[0], same), (found[1], same)])] == ["1"]


def test_a_price_above_the_ceiling_is_bid_at_it_and_the_dearer_ad_still_comes_first() -> None:
    part, metrics = parts(imp=[{"id": "1"}, {"id": "2"}, {"id": "3"}])[0], Metrics()
    found = offered([(part, answer(a=5_000_000.0, b=7.5, c=7_000_000.0))], metrics, price_max_cpm=20)
    assert [(bid.crid, bid.price) for bid in found] == [("c", 20.0), ("a", 20.0), ("b", 7.5)]
    assert metrics.take()[0] == {("adbeam_bids_bounded", (("reason", "capped"),)): 2.0}
    assert METRICS["adbeam_bids_bounded"][2] == ("reason",)
    dear = parts(imp=[{"id": "1", "bidfloor": 21}])[0]
    assert offered([(dear, answer(a=30.0))], price_max_cpm=20) == [], "the ceiling holds against an impression's floor"


def test_a_price_below_the_operators_floor_is_not_bid() -> None:
    part, metrics = parts(imp=[{"id": "1"}, {"id": "2"}])[0], Metrics()
    found = offered([(part, answer(a=0.09, b=0.1))], metrics, price_min_cpm=0.1)
    assert [(bid.impid, bid.crid) for bid in found] == [("1", "b")]
    assert metrics.take()[0] == {("adbeam_bids_bounded", (("reason", "below_floor"),)): 1.0}


def test_an_ad_that_is_not_worth_a_bid_leaves_its_place_to_the_next() -> None:
    found = offered([(parts()[0], answer(a=9.0, b=1.0))], worthless=("a",))
    assert [bid.crid for bid in found] == ["b"]


def test_without_bounds_prices_stay_as_they_are_and_nothing_is_counted() -> None:
    metrics = Metrics()
    found = offered([(parts()[0], answer(a=5_000_000.0))], metrics)
    assert [bid.price for bid in found] == [5_000_000.0] and not metrics.take()[0]


@pytest.mark.parametrize(
    "bounds",
    [{"price_min_cpm": 2, "price_max_cpm": 1}, {"price_max_cpm": 0}, {"price_max_cpm": float("inf")},
     {"price_min_cpm": -1}, {"price_max_cpm": "much"}],
)  # fmt: skip
def test_bounds_that_cannot_be_are_refused_by_name(bounds: Any) -> None:
    with pytest.raises(UserError, match=next(reversed(bounds))):
        ServingConfig.parse({"openrtb": bounds})


@pytest.mark.parametrize("imp", [[], [{"id": ""}], [{"id": "1", "bidfloor": float("nan")}], [{"id": "1"}] * 21, None])
def test_a_bid_request_without_usable_impressions_is_refused(imp: Any) -> None:
    with pytest.raises(ValueError, match="imp"):
        request(imp=imp)


def test_a_model_whose_prices_are_no_cpm_bids_nothing_and_says_so() -> None:
    metrics = Metrics()
    asked = request(imp=[{"id": "1"}, {"id": "2"}])
    assert slots(asked, Model(SCENES, may_bid=False), ServingConfig(), metrics) == []
    assert metrics.take()[0] == {("adbeam_bids_bounded", (("reason", "no_unit"),)): 2.0}


def test_the_operator_says_which_scene_a_place_is() -> None:
    serving = ServingConfig.parse({"openrtb": {"scenes": {"top-728": "search"}, "default_scene": "search"}})
    imps = [{"id": "1", "tagid": "top-728"}, {"id": "2", "tagid": "feed"}, {"id": "3", "tagid": "x"}, {"id": "4"}]
    found = slots(request(imp=imps), Model(SCENES), serving, Metrics())
    assert {part.fields["scene"]: [place.id for place in part.places] for part in found} == {
        "search": ["1", "3", "4"], "feed": ["2"],
    }  # fmt: skip


def test_places_that_only_deals_may_be_bid_on_have_decodes_of_their_own() -> None:
    deals = {"a": {"campaigns": ["x"]}, "b": {}}
    serving = ServingConfig.parse({"openrtb": {"deals": deals}})
    private = [{"private_auction": 1, "deals": [deal]} for deal in ({"id": "a"}, {"id": "b", "wadomain": ["x"]})]
    imps = [{"id": "1", "pmp": private[0]}, {"id": "2", "pmp": private[1]}, {"id": "3"}, {"id": "4"}]
    found = slots(request(imp=imps), Model(SCENES), serving, Metrics())
    assert [([place.id for place in part.places], {**part.fields["filters"]}.keys() - {"blocked_advertisers"})
            for part in found] == [
        (["1"], {"allowed_campaigns", "blocked_categories"}), (["2"], {"allowed_advertisers", "blocked_categories"}),
        (["3", "4"], {"blocked_categories"}),
    ]  # fmt: skip
