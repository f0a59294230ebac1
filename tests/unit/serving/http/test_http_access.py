"""Who comes in through the HTTP border: keys, admin keys, rates."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.asgi import call
from tests.support.echo_service import EVENT, EchoService

from adbeam.errors import UserError
from adbeam.serving.config import AuthConfig, LimitsConfig
from adbeam.serving.http.app import build_api
from adbeam.serving.http.auth import Authenticator, RateLimit


@pytest.mark.parametrize(
    ("auth", "right"),
    [
        ({"mode": "bearer"}, {"Authorization": "Bearer second"}),
        ({"mode": "api_key", "header": "X-Key"}, {"x-key": "first"}),
    ],
)
async def test_with_auth_on_only_a_known_key_comes_in(
    auth: dict[str, Any], right: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADBEAM_API_KEYS", "first, second")
    api = build_api(EchoService(auth=auth))
    users = {"users": [{"user_id": "u", "profile": {}}]}
    for method, path, body in (
        ("POST", "/v1/ads", {}),
        ("POST", "/v1/events", {"events": [EVENT]}),
        ("POST", "/v1/users", users),
        ("DELETE", "/v1/users/u", None),
    ):
        assert (await call(api, method, path, body, right)).status in (200, 202)
        for wrong in ({}, {"Authorization": "Bearer third"}, {"Authorization": "second"}, {"x-key": "firs"}):
            reply = await call(api, method, path, body, wrong)
            assert reply.status == 401 and "www-authenticate" in reply.headers
    assert (await call(api, "GET", "/healthz")).status == 200
    assert (await call(api, "GET", "/v1/status")).status == 401
    assert (await call(api, "GET", "/v1/status", None, right)).json == {"policy": "deadline"}
    document = (await call(api, "GET", "/openapi.json")).json
    assert document["paths"]["/v1/ads"]["post"]["security"]


REMOVE = {"changes": [{"operation": "remove", "item_id": "i"}]}


async def test_ads_are_changed_with_an_admin_key_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADBEAM_API_KEYS", "caller")
    monkeypatch.setenv("ADBEAM_ADMIN_KEYS", "admin")
    api = build_api(EchoService(auth={"mode": "bearer"}, admin={"mode": "bearer"}))
    assert (await call(api, "POST", "/v1/admin/ads", REMOVE, {"Authorization": "Bearer admin"})).json["last"] == 1
    for wrong in ({}, {"Authorization": "Bearer caller"}):
        reply = await call(api, "POST", "/v1/admin/ads", REMOVE, wrong)
        assert reply.status == 401 and "www-authenticate" in reply.headers
    assert (await call(api, "POST", "/v1/ads", {}, {"Authorization": "Bearer admin"})).status == 401
    reply = await call(build_api(EchoService()), "POST", "/v1/admin/ads", REMOVE)
    assert reply.status == 403 and "admin.mode" in reply.json["detail"]
    monkeypatch.delenv("ADBEAM_ADMIN_KEYS")
    with pytest.raises(UserError, match=r"admin.*ADBEAM_ADMIN_KEYS"):
        build_api(EchoService(admin={"mode": "bearer"}))


async def test_a_debug_answer_needs_an_admin_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADBEAM_ADMIN_KEYS", "admin")
    api = build_api(EchoService(admin={"mode": "bearer"}))
    assert (await call(api, "POST", "/v1/ads", {"debug": True}, {"Authorization": "Bearer admin"})).json["debug"]
    for wrong in ({}, {"Authorization": "Bearer caller"}):
        assert (await call(api, "POST", "/v1/ads", {"debug": True}, wrong)).status == 401
        assert (await call(api, "POST", "/v1/ads", {"debug": False}, wrong)).status == 200
    reply = await call(build_api(EchoService()), "POST", "/v1/ads", {"debug": True})
    assert reply.status == 403 and "admin.mode" in reply.json["detail"]


def test_auth_without_keys_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("ADBEAM_API_KEYS", raising=False)
    with pytest.raises(UserError, match="ADBEAM_API_KEYS"):
        Authenticator(AuthConfig(mode="bearer"))
    (tmp_path / "keys").write_text("one\ntwo\n")
    authenticator = Authenticator(AuthConfig(mode="bearer", keys_file=tmp_path / "keys"))
    assert authenticator.caller({"authorization": "bearer two"}) is not None


def test_rate_limit_counts_each_caller_apart() -> None:
    now = [0.0]
    limit = RateLimit(LimitsConfig(requests_per_second=10, burst_requests=2), lambda: now[0])
    assert [limit.allows("a") for _ in range(3)] == [True, True, False]
    assert limit.allows("b")
    now[0] = 0.1
    assert [limit.allows("a") for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [limit.allows("a") for _ in range(3)] == [True, True, False]


async def test_over_the_rate_limit_is_429_with_retry_after() -> None:
    api = build_api(EchoService(limits={"requests_per_second": 0.001, "burst_requests": 1}))
    assert (await call(api, "POST", "/v1/ads", {})).status == 200
    reply = await call(api, "POST", "/v1/ads", {})
    assert reply.status == 429 and int(reply.headers["retry-after"]) >= 1


async def test_bid_requests_are_under_authentication_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADBEAM_API_KEYS", "one")
    limits = {"requests_per_second": 0.001, "burst_requests": 1, "body_bytes": 1024}
    api = build_api(EchoService(auth={"mode": "bearer"}, limits=limits))
    body, key = {"id": "r", "imp": [{"id": "1"}]}, {"Authorization": "Bearer one"}
    assert (await call(api, "POST", "/v1/openrtb", body)).status == 401
    assert (await call(api, "POST", "/v1/openrtb", {**body, "ext": "x" * 2000}, key)).status == 413
    over = await call(api, "POST", "/v1/openrtb", body, key)
    assert over.status == 429 and over.headers["retry-after"] == "1"
