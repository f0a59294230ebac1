"""Profiles as a client meets them: a replica over HTTP with a decode process of its own, both stores, cache on."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
from tests.support.redis_server import free_port, redis_server
from tests.support.replicas import start_replicas, stop_replicas, write_tokenized_bundle

from adbeam.bundle import load_bundle, write_again
from adbeam.serving.client import call
from adbeam.targeting.rules import stored_rules
from adbeam.targeting.told import Told

ADS = 40
RULES = (
    '{"age":{"from":18.0}}',
    '{"age":{"to":17.0,"missing":true}}',
    '{"likes":{"in":["tea"]}}',
    '{"likes":{"not_in":["tea"],"missing":true}}',
    '{"age":{"from":18.0},"country":{"in":["de"]}}',
)
FEATURES: dict[str, Any] = {
    "age": {"kind": "number", "source": "user"},
    "likes": {"kind": "list", "source": "user"},
    "country": {"kind": "category"},
}


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis"), free_port()) as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("profiles")
    bundle = load_bundle(write_tokenized_bundle(folder / "bundles", ADS))
    texts = [*RULES, *[None] * (ADS - len(RULES))]
    catalogue = bundle.catalogue.append_column("targeting", pa.array(texts, pa.string()))
    write_again(folder / "bundles", bundle, {}, catalogue=catalogue)
    store: dict[str, Any] = {"path": str(folder / "h.sqlite")}
    if request.param == "redis":
        store = {"backend": "redis", "redis": {"urls": [redis_url], "read_timeout_ms": 100}}
    args: dict[str, Any] = {
        "bundle": str(folder / "bundles"),
        "policy": "deadline",
        "features": FEATURES,
        "store": store,
        "cache": {"enabled": True, "ttl_seconds": 600, "answer_repeats": True},
        "engine": {"calibration_seconds": 0.2},
        "deadline": {"min_ms": 0.001, "max_ms": 20_000},
    }
    port = free_port()
    processes = start_replicas(args, [port])
    yield f"http://127.0.0.1:{port}"
    stop_replicas(processes)


def _answer(url: str, deadline_ms: float = 10_000, **body: Any) -> tuple[str, set[str]]:
    """(where the answer came from, those of its ads that have rules)."""
    status, answer = call(url, "POST", "/v1/ads", {"count": 60, "deadline_ms": deadline_ms, **body})
    assert status == 200, answer
    found = {ad["item_id"] for ad in answer["ads"]}
    ruled = {f"ad{place}" for place in range(len(RULES))}
    assert len(found - ruled) == ADS - len(RULES)
    return answer["served"]["source"], found & ruled


def _legal(context: dict[str, Any], unread: tuple[str, ...] = ()) -> set[str]:
    told = Told(
        tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in sorted(context.items())),
        "display",
        0,
        unread,
    )
    return {f"ad{place}" for place, text in enumerate(RULES) if stored_rules(text).hold(told)}


def _random_profile(rng: random.Random) -> dict[str, Any]:
    profile = {"age": float(rng.randint(5, 60)), "likes": rng.sample(["tea", "wine", "soap"], rng.randint(1, 2))}
    return {name: value for name, value in profile.items() if rng.random() < 0.7}


def test_what_is_kept_and_what_is_told_give_the_same_legal_answers(url: str) -> None:
    rng = random.Random(3)
    profiles = {f"user {number}": _random_profile(rng) for number in range(25)}
    users = [{"user_id": user_id, "profile": profile} for user_id, profile in profiles.items()]
    status, receipt = call(url, "POST", "/v1/users", {"users": users})
    empty = sum(not profile for profile in profiles.values())
    assert (status, receipt) == (200, {"stored": 25 - empty, "removed": empty, "nobody": 0})
    for user_id, profile in profiles.items():
        country = {"country": rng.choice(["de", "fr"])}
        wanted = _legal({**profile, **country})
        assert _answer(url, user_id=user_id, context=country) == ("model", wanted)
        assert _answer(url, user_id=user_id, context=country) == ("cache", wanted)
        assert _answer(url, user_id=None, user=profile, context=country) == ("model", wanted)
        told = {name: value for name, value in profile.items() if name == "age"}
        unread = tuple(name for name in ("age", "likes") if name not in told)
        came_from, found = _answer(url, 0.001, user_id=f"late {user_id}", user=told, context=country)
        assert came_from == "fallback" and found == _legal({**told, **country}, unread)


def test_the_request_wins_and_a_forgotten_user_is_a_new_one(url: str) -> None:
    call(url, "POST", "/v1/users", {"users": [{"user_id": "u/1", "profile": {"age": 40, "likes": ["tea"]}}]})
    assert _answer(url, user_id="u/1")[1] == _legal({"age": 40, "likes": ["tea"]})
    assert _answer(url, user_id="u/1", user={"age": 9})[1] == _legal({"age": 9, "likes": ["tea"]})
    gone = [call(url, "DELETE", "/v1/users/u%2F1") for _ in range(2)]
    assert gone == [(200, {"profile": True, "history": False}), (200, {"profile": False, "history": False})]
    assert _answer(url, user_id="u/1") == ("model", _legal({}))


def test_a_store_that_hangs_makes_no_answer_late_and_none_illegal(url: str, redis_url: str) -> None:
    call(url, "POST", "/v1/users", {"users": [{"user_id": "slow", "profile": {"age": 40}}]})
    client = redis.Redis.from_url(redis_url)
    client.client_pause(3000, all=True)
    try:
        started_s = time.monotonic()
        _, found = _answer(url, 1000, user_id="slow")
        assert time.monotonic() - started_s < 1.5
    finally:
        client.client_unpause()
    assert found in (_legal({}, ("age", "likes")), _legal({"age": 40}))
