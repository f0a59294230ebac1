"""People whose signals forbid it: answered as unknown users, and no trace of them anywhere in a whole replica."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis
from tests.support.asgi import call
from tests.support.bundles import write_random_bundle
from tests.support.redis_server import free_port, redis_server
from tests.support.serving.consent_strings import VENDOR, gpp_string, tc_string, vendors

from adbeam.beams.cost import BatchCost
from adbeam.identity.people import digest_of
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.bundle_follower import first_model
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.events.event_log import EventLog, RequestLog
from adbeam.serving.http.app import build_api
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.load import open_store

PERSON, LONG = "person-4711-ü", "device-0815-" * 20
NO = tc_string(consent=vendors([]))
SOLD = gpp_string({7: "BVQVAAAAAgA.QA"})
FORBIDDING: list[dict[str, Any]] = [
    {"gdpr": 1}, {"gdpr": 1, "tcf": NO}, {"tcf": "damaged"}, {"gpp": SOLD, "gpp_sid": [7]}, {"us_privacy": "1YYN"},
    {"coppa": 1}, {"lmt": 1}, {"dnt": 1},
]  # fmt: skip


@pytest.fixture(params=["sqlite", "redis"])
def redis_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    if request.param == "sqlite":
        yield None
        return
    with redis_server(tmp_path, free_port(), "--appendonly", "yes") as url:
        yield url


@asynccontextmanager
async def _replica(folder: Path, redis_url: str | None) -> AsyncIterator[RecommenderService]:
    write_random_bundle(folder / "bundles", 80)
    store: dict[str, Any] = {"path": "h.sqlite"}
    if redis_url is not None:
        store = {"backend": "redis", "redis": {"urls": [f"{redis_url}/0"], "read_timeout_ms": 2000}}
    args = {
        "bundle": "bundles",
        "privacy": {"vendor_id": VENDOR},
        "features": {"age": {"kind": "number", "source": "user"}},
        "store": store,
        "cache": {"answer_repeats": True},
        "frequency_caps": [{"of": "ad", "most": 3, "hours": 24}],
        "budgets": {"path": "budgets.sqlite"},
        "event_log": {"folder": "events"},
        "request_log": {"folder": "requests"},
        "engine": {"own_process": False, "ecpm_scale": 1.0},
    }
    config = ServingConfig.resolve(args, folder)
    metrics, kept = Metrics(), open_store(config.store)
    policy = read_policy("static")
    model = first_model(partial(load_model, cost=BatchCost(1.0, 0.5, 0.01)), config, policy, kept, metrics)
    request_log = RequestLog(config.request_log, config.event_log.folder)
    service = RecommenderService(config, model, policy, kept, metrics, EventLog(config.event_log, kept), request_log)
    service.start()
    try:
        yield service
    finally:
        service.close()


async def _ask(service: RecommenderService, route: str, body: dict[str, Any]) -> Any:
    reply = await call(build_api(service), "POST", f"/v1/{route}", body)
    assert reply.status in (200, 202), reply.body
    return reply.json


def _bid(user_id: str, told: dict[str, Any], in_ext: bool) -> dict[str, Any]:
    regs = {name: told[name] for name in ("gdpr", "gpp", "gpp_sid", "us_privacy", "coppa") if name in told}
    consent = {"consent": told["tcf"]} if "tcf" in told else {}
    device = {name: told[name] for name in ("lmt", "dnt") if name in told}
    user = {"id": user_id, "buyeruid": user_id, "yob": 1990}
    if in_ext:
        return {"id": "r", "imp": [{"id": "1"}], "tmax": 3000, "user": {**user, "ext": consent},
                "regs": {"ext": regs, "coppa": told.get("coppa")}, "device": device}  # fmt: skip
    return {"id": "r", "imp": [{"id": "1"}], "tmax": 3000, "user": {**user, **consent}, "regs": regs, "device": device}


async def _live(service: RecommenderService, user_id: str, told: dict[str, Any], name: str) -> None:
    """Everything that a client may send of a person."""
    ad = {"count": 5, "user_id": user_id, "privacy": told, "user": {"age": 31}}
    for place in range(2):
        await _ask(service, "ads", {**ad, "request_id": f"{name}-{place}"})
    for in_ext in (False, True):
        await _ask(service, "openrtb", _bid(user_id, told, in_ext))
    events = [
        {"event_id": f"{name}-{action}", "request_id": f"{name}-0", "user_id": user_id, "timestamp": 1_700_000_000_000,
         "item_id": "item-3", "action": action, "ecpm": 2.0, "privacy": told}
        for action in ("impression", "click", "conversion")
    ]  # fmt: skip
    await _ask(service, "events", {"events": events})
    await _ask(service, "users", {"users": [{"user_id": user_id, "profile": {"age": 31}, "privacy": told}]})


def _needles(user_id: str, pseudonym: str) -> list[bytes]:
    names = [user_id, user_id.encode("unicode_escape").decode(), digest_of(user_id), pseudonym]
    hashes = [hashed(user_id.encode()).hexdigest() for hashed in (hashlib.sha256, hashlib.sha1, hashlib.md5)]
    return [name.encode() for name in [*names, *hashes]]


def _everything(folder: Path, redis_url: str | None) -> Iterator[tuple[str, bytes]]:
    """The bytes of every file, the cells of every Parquet file, and what a Redis server holds."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
            if path.suffix == ".parquet":
                yield f"{path}, its cells", repr(pq.read_table(path).to_pylist()).encode()
    if redis_url is not None:
        client = redis.Redis.from_url(f"{redis_url}/0")
        for key in client.scan_iter():
            kind = client.type(key)
            value = client.hgetall(key) if kind == b"hash" else client.get(key)
            yield "redis", key + repr(value).encode()


def _found(needles: list[bytes], places: list[tuple[str, bytes]]) -> list[str]:
    return [f"{needle!r} in {place}" for place, held in places for needle in needles if needle in held]


async def test_no_trace_is_left_of_who_is_forbidden(
    tmp_path: Path, redis_url: str | None, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with _replica(tmp_path, redis_url) as service:
            assert isinstance(service.metrics, Metrics) and service._feedback._log is not None
            hashed = service._feedback._log.user_hash
            needles = {user: _needles(user, hashed(user)) for user in (PERSON, LONG, digest_of(LONG), "allowed-42")}
            await _live(service, "allowed-42", {"gdpr": 0}, "allowed")
            for place, told in enumerate(FORBIDDING):
                for user_id in (PERSON, LONG):
                    await _live(service, user_id, told, f"forbidden-{place}-{len(user_id)}")
            await _ask(service, "ads", {"user_id": "allowed-42"})  # events have emptied the cache
            kept = (service.cache._kept, service.cache._keys_of_user, service.cache._user_of_key, service._feedback)
            memory = [("memory", repr(kept).encode()), ("metrics", repr(service.metrics.take()).encode())]
            metrics = memory[1][1].decode()
            assert "adbeam_forbidden_users" in metrics and "gdpr_no_consent_string" in metrics
    output = capfd.readouterr()
    said = [("log", caplog.text.encode()), ("output", (output.out + output.err).encode())]
    places = [*_everything(tmp_path, redis_url), *memory, *said]
    for user in (PERSON, LONG, digest_of(LONG)):
        assert _found(needles[user], places) == []
    of_allowed = "\n".join(_found(needles["allowed-42"], places))  # so that the search is one
    for named in ("events-", "requests-", "memory", "redis" if redis_url else "h.sqlite"):
        assert named in of_allowed


async def test_the_answer_is_that_of_an_unknown_user(tmp_path: Path) -> None:
    async with _replica(tmp_path, None) as service:
        bought = [
            {"event_id": f"e{n}", "request_id": "r", "user_id": PERSON, "timestamp": 1_700_000_000_000 + n,
             "item_id": f"item-{n}", "action": "conversion", "price": 3.0} for n in range(8)
        ]  # fmt: skip
        assert (await _ask(service, "events", {"events": bought}))["accepted"] == 8

        past = [{"item_id": event["item_id"], "timestamp": event["timestamp"]} for event in bought]

        async def ads(**fields: Any) -> tuple[bool, list[Any]]:
            answer = await _ask(service, "ads", {"count": 10, "timestamp": 1_700_000_100_000, **fields})
            return answer["served"]["cold_start"], answer["ads"]

        known, unknown = await ads(user_id=PERSON), await ads()
        assert known != unknown and unknown[0] and not known[0]
        assert await ads(user_id=PERSON, privacy={"gdpr": 0}) == known
        for told in FORBIDDING:
            assert await ads(user_id=PERSON, history=past, user={"age": 31}, privacy=told) == unknown
        bids = [
            [bid["adid"] for bid in (await _ask(service, "openrtb", body))["seatbid"][0]["bid"]]
            for body in [_bid("null", {}, False), *(_bid(PERSON, told, True) for told in FORBIDDING)]
        ]
        assert all(bid == bids[0] for bid in bids)


async def test_what_a_store_says_when_it_refuses_is_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise redis.ResponseError(f"Command # 1 (SET adbeam:history:{PERSON} ...) of pipeline caused error: OOM")

    async with _replica(tmp_path, None) as service:
        for name in ("append", "append_once", "recent_many", "known_many"):
            monkeypatch.setattr(service.store, name, full)
        event = {"event_id": "e", "request_id": "r", "user_id": PERSON, "timestamp": 5, "item_id": "i",
                 "action": "click"}  # fmt: skip
        with caplog.at_level(logging.DEBUG):
            reply = await call(build_api(service), "POST", "/v1/events", {"events": [event]})
            assert reply.status == 503
            await _ask(service, "ads", {"user_id": PERSON})
        assert caplog.text.count("ResponseError") >= 2 and PERSON not in caplog.text
