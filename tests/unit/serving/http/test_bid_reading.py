"""Bid requests with fields of other types than the specification's."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.asgi import call
from tests.support.echo_service import EchoService

from adbeam.identity.people import NOBODY_WORDS
from adbeam.serving.config import LimitsConfig, ServingConfig
from adbeam.serving.http.app import build_api
from adbeam.serving.http.bid_reading import InvalidBidRequest, read_bid_request
from adbeam.serving.http.openrtb import BidRequest, bid_model, slots
from adbeam.serving.http.problems import Problem
from adbeam.serving.http.schemas import request_model
from adbeam.serving.monitoring.metrics import METRICS, Metrics

LIMITS = LimitsConfig.parse({"impressions_max": 3, "filter_max": 4})
CLEAN: dict[str, Any] = {
    "id": "r7", "imp": [{"id": "1", "tagid": "top", "bidfloor": 0.2, "bidfloorcur": "USD"}],
    "user": {"id": "somebody"}, "tmax": 400, "cur": ["USD"], "bcat": ["IAB25"], "badv": ["loud.example"],
}  # fmt: skip
ODD: list[Any] = [None, "", "x", [], {}, [None], [[]], True, -1, 2.5, 10**40, "9" * 400, {"ext": {}}]
PLACES = [("imp", "tagid"), ("imp", "bidfloor"), ("imp", "bidfloorcur"), ("user",), ("user", "id"),
          ("user", "buyeruid"), ("tmax",), ("cur",), ("bcat",), ("badv",), ("bapp",), ("test",),
          ("imp", "banner"), ("imp", "native"), ("cattax",), ("source",)]  # fmt: skip


def read(request: Any, metrics: Metrics | None = None) -> BidRequest:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return read_bid_request(body, bid_model(LIMITS), LIMITS, metrics or Metrics())


def changed(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    request = copy.deepcopy(CLEAN)
    inner = request["imp"][0] if place[0] == "imp" else request
    for name in place[1:-1] if place[0] == "imp" else place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return request


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("place", PLACES, ids=".".join)
async def test_no_odd_optional_field_costs_the_request(place: tuple[str, ...], value: Any) -> None:
    found = read(changed(place, value))
    assert found.id == "r7" and [imp.id for imp in found.imp] == ["1"]
    reply = await call(build_api(EchoService()), "POST", "/v1/openrtb", changed(place, value))
    assert reply.status == 200


@pytest.mark.parametrize(
    ("place", "value", "meant"),
    [
        (("imp", "bidfloor"), "0.5", 0.5), (("imp", "bidfloor"), "much", 0.0), (("imp", "id"), 1, "1"),
        (("imp", "bidfloorcur"), "", "USD"), (("imp", "tagid"), 12, "12"),
        (("tmax",), 933.33, 933), (("tmax",), 0, None), (("tmax",), "80", 80), (("tmax",), -5, None),
        (("cur",), None, []), (("cur",), "EUR", ["EUR"]), (("cur",), ["EUR", 4, ""], ["EUR"]),
        (("bcat",), [""], []), (("bcat",), ["", "IAB1", 5], ["IAB1"]), (("badv",), "a.example", ["a.example"]),
        (("user",), "u", None), (("user", "id"), 17, "17"), (("test",), "1", 1), (("test",), True, 1),
    ],
)  # fmt: skip
def test_what_a_field_of_another_type_means(place: tuple[str, ...], value: Any, meant: Any) -> None:
    found: Any = read(changed(place, value))
    for name in place:
        found = found.imp[0] if name == "imp" else getattr(found, name)
    assert found == meant


def test_unread_fields_are_counted_by_name_and_clean_requests_count_nothing() -> None:
    metrics = Metrics()
    read(CLEAN, metrics)
    assert not metrics.take()[0]
    read({**CLEAN, "tmax": [], "badv": [1, "a.example", ""], "imp": [{"id": "1", "bidfloor": "x"}, 4]}, metrics)
    counted = {dict(tags)["field"]: value for (_, tags), value in metrics.take()[0].items()}
    assert counted == {"tmax": 1, "badv": 2, "imp.bidfloor": 1, "imp": 1}
    assert METRICS["adbeam_bid_fields_unread"][2] == ("field",)


def test_a_byte_order_mark_is_passed_over() -> None:
    found = read(b"\xef\xbb\xbf" + json.dumps(CLEAN).encode())
    assert found.model_dump() == read(CLEAN).model_dump()


def test_of_too_many_impressions_the_first_are_read() -> None:
    found = read({**CLEAN, "imp": [{"id": str(place)} for place in range(9)]})
    assert [imp.id for imp in found.imp] == ["0", "1", "2"]


@pytest.mark.parametrize("imp", [None, [], {}, [4], [{}], [{"id": ""}]])
def test_without_a_readable_impression_the_request_is_invalid(imp: Any) -> None:
    with pytest.raises(InvalidBidRequest, match="r7"):
        read({**CLEAN, "imp": imp})


def test_a_block_list_that_cannot_be_kept_whole_is_not_cut() -> None:
    with pytest.raises(InvalidBidRequest):
        read({**CLEAN, "badv": [f"{place}.example" for place in range(5)]})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"4", b"null", b'{"imp": [{"id": "1"}]}', b'{"id": [], "imp": []}'])
def test_what_is_no_bid_request_is_400(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        read(body)
    assert refused.value.status == 400


def test_currencies_count_in_any_case_and_one_id_gets_one_slot() -> None:
    lower = {**CLEAN, "cur": ["usd"], "imp": [{"id": "1", "bidfloor": 1, "bidfloorcur": "usd"}, {"id": "1"}]}
    (found,) = slots(
        read(lower),
        SimpleNamespace(scenes=("feed",), may_bid=True, nobody_words=NOBODY_WORDS),
        ServingConfig(),
        Metrics(),
    )
    assert [place.bidfloor for place in found.places] == [1.0]


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("ext", '{"id": "r", "imp": [{"id": "1"}], "ext": %s}'),
        ("user.ext", '{"id": "r\\"{", "user": {"id": "u", "ext": %s}, "imp": [{"id": "1"}]}'),
        ("imp.banner", '{"id": "r", "imp": [{"id": "1", "banner": %s}]}'),
    ],
)
async def test_what_is_nested_a_thousand_deep_is_refused_by_name(place: str, body: str) -> None:
    deep = '{"a": ' * 1000 + "1" + "}" * 1000
    reply = await call(build_api(EchoService()), "POST", "/v1/openrtb", (body % deep).encode())
    assert reply.status == 400 and reply.json["detail"].startswith(f"{place}")
    assert "deeper than 200 levels" in reply.json["detail"] and len(reply.body) < 500


async def test_ten_thousand_deals_and_eids_are_bounded() -> None:
    many = [{"id": str(n), "source": "s", "uids": [{"id": "a"}]} for n in range(10_000)]
    request = {**CLEAN, "user": {"id": "u", "eids": many}, "imp": [{"id": "1", "pmp": {"deals": many}}]}
    found = read(request)
    assert found.user is not None and found.user.id == "u" and [imp.id for imp in found.imp] == ["1"]


async def test_a_scene_that_is_unknown_is_refused_without_a_list_of_thousands() -> None:
    service = EchoService()
    scenes = tuple(f"slot-{number}" for number in range(1673))
    service.request_type = request_model(service.config.limits, service.config.deadline, scenes)
    reply = await call(build_api(service), "POST", "/v1/ads", {"scene": "top"})
    assert reply.status == 422 and reply.json["errors"][0]["field"] == "scene"
    assert "'slot-0'" in reply.json["detail"] and len(reply.body) < 1500
