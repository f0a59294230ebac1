"""The HTTP border without a server: what comes in, what is refused, and with which words."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from tests.support.asgi import call
from tests.support.echo_service import EVENT, EchoService

from adbeam.serving.http.app import build_api


async def ask(body: Any, headers: dict[str, str] | None = None, **args: Any) -> Any:
    return await call(build_api(EchoService(**args)), "POST", "/v1/ads", body, headers)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"count": 0}, "count", "greater than or equal to 1"),
        ({"count": 10**6}, "count", "less than or equal to 100"),
        ({"count": "5"}, "count", "valid integer"),
        ({"count": 10**40}, "count", "less than or equal"),
        ({"scene": "feed"}, "scene", "'display' or 'mailer'"),
        ({"conut": 5}, "conut", "not permitted"),
        ({"user_id": 5}, "user_id", "valid string"),
        ({"user_id": "x" * 4097}, "user_id", "at most 4096"),
        ({"deadline_ms": 1}, "deadline_ms", "greater than or equal to 10"),
        ({"deadline_ms": 1e9}, "deadline_ms", "less than or equal to 5000"),
        ({"history": [{"item_id": "i", "timestamp": -1}]}, "history.0.timestamp", "greater than or equal to 0"),
        ({"history": [{"item_id": "i", "timestamp": 1, "value": -2}]}, "history.0.value", "greater than or equal to 0"),
        ({"filters": {"blocked_item_ids": [3]}}, "filters.blocked_item_ids.0", "valid string"),
        ({"filters": {"blocked": []}}, "filters.blocked", "not permitted"),
        ([], "body", "object"),
    ],
)
async def test_a_bad_field_is_named_with_its_value(body: Any, field: str, words: str) -> None:
    reply = await ask(body)
    assert reply.status == 422
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json
    assert problem["status"] == 422
    assert [error["field"] for error in problem["errors"]] == [field]
    assert words in problem["errors"][0]["message"] and field in problem["detail"]


@pytest.mark.parametrize("body", [b"", b'{"count": ', b"\xff\xfe", b'{"count": 1} trailing', b'"\\ud800"'])
async def test_malformed_json_is_400(body: bytes) -> None:
    reply = await ask(body)
    assert reply.status == 400 and "not valid JSON" in reply.json["detail"]


async def test_what_is_nested_too_deep_is_400() -> None:
    reply = await ask(b"[" * 5000)
    assert reply.status == 400 and "body: nested deeper" in reply.json["detail"]


@pytest.mark.parametrize("chunks", [1, 7])
async def test_a_large_body_is_413_before_it_is_parsed(chunks: int) -> None:
    api = build_api(EchoService(limits={"body_bytes": 2048}))
    reply = await call(api, "POST", "/v1/ads", b"{" * 5000, chunks=chunks)
    assert reply.status == 413 and "2048" in reply.json["detail"]
    assert (await call(api, "POST", "/v1/ads", b" " * 2046 + b"{}")).status == 200


@pytest.mark.parametrize(
    ("body", "headers", "granted"),
    [
        ({}, {}, 123.0),
        ({"deadline_ms": 50}, {}, 50.0),
        ({"deadline_ms": 50}, {"X-Deadline-Ms": "70.5"}, 70.5),
    ],
)
async def test_deadline_comes_from_header_body_or_default(body: Any, headers: dict[str, str], granted: float) -> None:
    assert (await ask(body, headers)).json["granted_ms"] == granted


@pytest.mark.parametrize("header", ["soon", "nan", "-1", "1e99", ""])
async def test_a_bad_deadline_header_is_named(header: str) -> None:
    reply = await ask({}, {"X-Deadline-Ms": header})
    assert reply.status == 422 and reply.json["errors"][0]["field"] == "X-Deadline-Ms"


async def test_no_ad_is_204_and_a_fault_inside_tells_no_detail() -> None:
    service = EchoService()
    api = build_api(service)
    assert (await call(api, "POST", "/v1/ads", {"user_id": "nobody"})).status == 204
    reply = await call(api, "POST", "/v1/ads", {"user_id": "breaks"})
    assert reply.status == 500 and b"secret" not in reply.body
    assert service.responses == [("ads", 204), ("ads", 500)]


async def test_events_name_the_wrong_one() -> None:
    api = build_api(EchoService(limits={"events_max": 2}))
    assert (await call(api, "POST", "/v1/events", {"events": [EVENT, EVENT]})).json == {"accepted": 2, "duplicates": 0}
    cases: list[tuple[Any, str]] = [
        ({"events": []}, "events"),
        ({"events": [EVENT] * 3}, "events"),
        ({"events": [EVENT, {**EVENT, "price": -1}]}, "events.1.price"),
        ({"events": [EVENT, {**EVENT, "price": 1e300}]}, "events.1.price"),
        ({"events": [{**EVENT, "bid": 1.1e12}]}, "events.0.bid"),
        ({"events": [EVENT, {**EVENT, "action": "buy"}]}, "events.1.action"),
        ({"events": [{**EVENT, "timestamp": "1"}]}, "events.0.timestamp"),
        ({}, "events"),
    ]
    for body, field in cases:
        reply = await call(api, "POST", "/v1/events", body)
        assert (reply.status, reply.json["errors"][0]["field"]) == (422, field)


async def test_unknown_paths_and_methods_answer_with_a_problem() -> None:
    api = build_api(EchoService())
    for method, path, status in (("GET", "/nowhere", 404), ("GET", "/v1/ads", 405)):
        reply = await call(api, method, path)
        assert reply.status == status == reply.json["status"]


async def test_health_and_readiness_say_what_is_wrong() -> None:
    service = EchoService()
    api = build_api(service)
    assert (await call(api, "GET", "/healthz")).status == 200
    assert (await call(api, "GET", "/readyz")).json["detail"] == "still starting"
    service.fault = "the decode thread is not running"
    assert (await call(api, "GET", "/healthz")).status == 503


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ([], "changes"),
        ([{"operation": "remove", "item_id": "i"}] * 3, "changes"),
        ([{"operation": "insert", "item_id": "i"}], "changes.0"),
        ([{"operation": "insert", "item_id": "i", "item": {"item_id": "j", "title": "t"}}], "changes.0"),
        ([{"operation": "insert", "item_id": "i", "item": {"item_id": "i", "title": "t", "kind": "organic"}}],
         "changes.0"),
        ([{"operation": "insert", "item_id": "i", "item": {"item_id": "i", "title": "t", "price": -1}}],
         "changes.0.item.price"),
        ([{"operation": "insert", "item_id": "i", "item": {"item_id": "i", "title": "t", "price": 1e300}}],
         "changes.0.item.price"),
        ([{"operation": "update", "item_id": "i", "ecpm": 1.1e12}], "changes.0.ecpm"),
        ([{"operation": "update", "item_id": "i"}], "changes.0"),
        ([{"operation": "update", "item_id": "i", "ecpm": float("nan")}], "changes.0.ecpm"),
        ([{"operation": "delete", "item_id": "i"}], "changes.0.operation"),
        ([{"operation": "remove", "item_id": "i", "sid": [1, 2, 3]}], "changes.0.sid"),
    ],
)  # fmt: skip
async def test_a_bad_change_of_an_ad_is_named(changes: list[Any], field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADBEAM_ADMIN_KEYS", "admin")
    api = build_api(EchoService(admin={"mode": "bearer", "changes_max": 2}))
    reply = await call(api, "POST", "/v1/admin/ads", {"changes": changes}, {"Authorization": "Bearer admin"})
    assert (reply.status, reply.json["errors"][0]["field"]) == (422, field)


async def test_openapi_shows_the_bounds_in_force() -> None:
    api = build_api(EchoService(limits={"count_max": 7}))
    document = (await call(api, "GET", "/openapi.json")).json
    request = document["components"]["schemas"]["AdRequest"]["properties"]
    assert request["count"]["maximum"] == 7
    assert {"display", "mailer"} <= set(request["scene"]["anyOf"][0]["enum"])
    assert set(document["paths"]) == {
        "/v1/ads",
        "/v1/openrtb",
        "/v1/events",
        "/v1/users",
        "/v1/users/{user_id}",
        "/v1/status",
        "/v1/path",
        "/v1/admin/ads",
        "/healthz",
        "/readyz",
    }


SEEDS = (
    b'{"user_id": "u", "count": 3, "scene": "display", "deadline_ms": 50, "filters": {"exclude_seen": true}}',
    b'{"history": [{"item_id": "i", "timestamp": 5, "action": "click", "item_kind": "ad", "value": 1.5}]}',
    b'{"filters": {"blocked_item_ids": ["a"], "blocked_advertisers": ["b"], "blocked_categories": []}, "value": 2e3}',
)
SPLICES = (
    b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'""', b'"\\u0000"', b'"\\ud800"', b"\xff", b"\x00", b"[" * 300,
    b"9" * 400, b'{"count":', b"true", b",", b'"', b"\\",
)  # fmt: skip


async def test_mutated_bodies_never_fail_inside() -> None:
    rng = random.Random(7)
    api = build_api(EchoService())
    statuses = Counter[int]()
    for _ in range(2000):
        body = bytearray(rng.choice(SEEDS))
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(len(body) + 1)
            body[start : start + rng.randrange(8)] = rng.choice((*SPLICES, rng.randbytes(3)))
        statuses[(await call(api, "POST", "/v1/ads", bytes(body))).status] += 1
    assert set(statuses) <= {200, 400, 422} and len(statuses) == 3


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        ({"id": "r", "imp": [{"id": "1"}]}, 200, {"id": "r", "granted_ms": 123.0}),
        (
            {"id": "r", "imp": [{"id": "1", "banner": {"w": 3}}], "tmax": 80, "at": 2},
            200,
            {"id": "r", "granted_ms": 70.0},
        ),
        ({"id": "r", "imp": [{"id": "1"}], "tmax": 10**6}, 200, {"id": "r", "granted_ms": 5000.0}),
        ({"id": "r", "imp": [{"id": "1"}], "tmax": 15}, 200, {"id": "r", "nbr": 15}),
        ({"id": "r", "imp": [{"id": "none"}]}, 204, None),
        ({"id": "r", "imp": []}, 200, {"id": "r", "nbr": 2}),
        ({"imp": [{"id": "1"}]}, 400, None),
        ({"id": "r", "imp": [{"id": "1", "bidfloor": -1}]}, 200, {"id": "r", "granted_ms": 123.0}),
        ({"id": "r", "imp": [{"id": "1"}] * 21}, 200, {"id": "r", "granted_ms": 123.0}),
        (b"{", 400, None),
    ],
)
async def test_a_bid_request_is_granted_its_tmax_less_the_network(body: Any, status: int, answer: Any) -> None:
    reply = await call(build_api(EchoService()), "POST", "/v1/openrtb", body)
    assert reply.status == status
    if status == 200:
        assert reply.json == answer
    assert (reply.headers.get("x-openrtb-version") == "2.6") == (status in (200, 204))
