"""One replica without Ray: deadlines kept, cache and fallback, health, events, model swaps."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.serving.gated_engine import FULL, GatedEngine, ask, model_of, running, until

from adbeam.catalogue.live import HeardEcpm
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.http.answer_schemas import ReplicaStatus
from adbeam.serving.http.problems import Problem
from adbeam.serving.stores.store import now_ms


async def test_an_answer_says_how_it_came_about(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine()) as service:
        answer = await ask(service, user_id="u", request_id="mine")
        assert answer is not None and answer["request_id"] == "mine"
        assert [found["item_id"] for found in answer["ads"]] == ["v1-ad"]
        served = answer["served"]
        assert (served["source"], served["degraded"], served["cold_start"]) == ("model", False, True)
        assert served["rung"] == 0 and tuple(served["widths"]) == tuple(served["full_widths"]) == FULL
        assert served["model_version"] == "v1"
        assert await ask(service, scene="empty") is None


async def test_a_request_that_cannot_be_decoded_in_time_gets_popular_ads_by_its_deadline(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine) as service:
        engine.gate.clear()
        started = time.monotonic()
        answer = await ask(service, deadline_ms=80, count=2, filters={"blocked_advertisers": ["advertiser-0"]})
        assert time.monotonic() - started < 1.0
        assert answer is not None
        assert [found["item_id"] for found in answer["ads"]] == ["popular-1", "popular-2"]
        assert answer["served"]["source"] == "fallback" and answer["served"]["degraded"]
        assert answer["served"]["rung"] is None


async def test_a_late_request_gets_the_cached_answer_of_its_user(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine) as service:
        await ask(service, user_id="u", count=4)
        engine.gate.clear()
        late = await ask(service, deadline_ms=60, user_id="u", count=4)
        assert late is not None and late["served"]["source"] == "cache" and late["served"]["degraded"]
        assert late["ads"][0]["item_id"] == "v1-ad"
        other = await ask(service, deadline_ms=60, user_id="u", count=3)
        assert other is not None and other["served"]["source"] == "fallback"


async def test_without_a_fallback_late_means_503_with_retry_after(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine, popular=0) as service:
        engine.gate.clear()
        with pytest.raises(Problem) as refused:
            await ask(service, deadline_ms=60)
        assert refused.value.status == 503 and "Retry-After" in refused.value.headers


async def test_failing_and_hanging_decodes_show_in_the_health(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine, engine={"stuck_seconds": 0.05}) as service:
        assert service.health() is None
        engine.fails = True
        for number in range(3):
            answer = await ask(service, user_id=f"u{number}")
            assert answer is not None and answer["served"]["source"] == "fallback"
        assert "decodes failed" in str(service.health())
        engine.fails = False
        await ask(service)
        assert service.health() is None
        engine.gate.clear()
        hanging = asyncio.create_task(ask(service, deadline_ms=300))
        await until(lambda: service.health() is not None)
        assert "running for more than" in str(service.health())
        engine.gate.set()
        await hanging
    assert "not running" in str(service.health())


async def test_events_count_once_change_the_cache_and_must_lie_in_the_past(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine(), cache={"answer_repeats": True}) as service:
        await ask(service, user_id="u")
        again = await ask(service, user_id="u")
        assert again is not None and again["served"]["source"] == "cache" and not again["served"]["degraded"]
        event = {"event_id": "e", "request_id": "r", "user_id": "u", "timestamp": 5, "item_id": "i", "action": "click"}

        async def post(**changes: Any) -> Any:
            batch = service.event_type.model_validate_json(json.dumps({"events": [{**event, **changes}]}))
            return json.loads(await service.events(batch))

        assert await post() == {"accepted": 1, "duplicates": 0}
        assert await post() == {"accepted": 0, "duplicates": 1}
        fresh = await ask(service, user_id="u")
        assert fresh is not None and fresh["served"]["source"] == "model"
        with pytest.raises(Problem, match="future"):
            await post(event_id="f", timestamp=now_ms() + 3_600_000)
        history = service.store.recent("u")
        assert history is not None and history.item_ids == ["i"]


async def test_a_store_that_fails_gives_503_for_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, GatedEngine()) as service:

        def broken(events: Any) -> list[bool]:
            raise OSError("disk")

        monkeypatch.setattr(service.store, "append", broken)
        event = {"event_id": "e", "request_id": "r", "user_id": "u", "timestamp": 5, "item_id": "i", "action": "click"}
        batch = service.event_type.model_validate_json(json.dumps({"events": [event]}))
        with pytest.raises(Problem) as refused:
            await service.events(batch)
        assert refused.value.status == 503


async def test_a_swap_loses_no_request_and_a_policy_can_be_replaced(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine) as service:
        engine.gate.clear()
        old = asyncio.create_task(ask(service, user_id="a"))
        await until(lambda: len(engine.batches) == 1)
        service.take_model(model_of(GatedEngine("v2")))
        new = asyncio.create_task(ask(service, user_id="b"))
        engine.gate.set()
        answers = await asyncio.gather(old, new)
        assert [answer["served"]["model_version"] for answer in answers if answer] == ["v1", "v2"]
        service.take_policy(read_policy({"policy": "static", "default_deadline_ms": 77}))
        assert service.default_deadline_ms == 77
        await ask(service)
        assert service.decoding.signals().policy == "static"


async def test_a_bid_is_the_expected_ecpm_of_the_best_ad_and_below_the_floor_there_is_none(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine()) as service:

        async def bid(**imp: Any) -> Any:
            request = service.bid_type.model_validate({"id": "r", "imp": [{"id": "1", **imp}]})
            answer = await service.bid(request, 2000.0, time.monotonic())
            return None if answer is None else json.loads(answer)

        offered = [{"id": "r-1", "impid": "1", "price": 2.0, "adid": "v1-ad", "crid": "v1-ad"}]
        assert await bid(bidfloor=1.5) == {"id": "r", "seatbid": [{"bid": offered, "seat": "adbeam"}], "cur": "USD"}
        assert await bid(bidfloor=2.5) is None
        assert await bid(tagid="empty") is None


async def test_bounds_of_bids_hold_for_model_cache_and_fallback_alike_and_the_status_shows_them(tmp_path: Path) -> None:
    engine, bounds = GatedEngine(), {"price_max_cpm": 1.25, "price_min_cpm": 0.5}
    async with running(tmp_path, engine, openrtb=bounds) as service:

        async def price(user: str, deadline_ms: float) -> Any:
            request = service.bid_type.model_validate({"id": "r", "imp": [{"id": "1"}], "user": {"id": user}})
            answer = await service.bid(request, deadline_ms, time.monotonic())
            assert answer is not None
            bid = json.loads(answer)["seatbid"][0]["bid"][0]
            return bid["crid"], bid["price"]

        assert await price("u", 2000) == ("v1-ad", 1.25)
        engine.gate.clear()
        assert await price("u", 60) == ("v1-ad", 1.25), "from the cache"
        assert await price("other", 60) == ("popular-0", 1.25), "from the fallback"
        status = ReplicaStatus.model_validate_json(service.status())
        assert status.openrtb.model_dump() == {"currency": "USD", **bounds}


async def test_an_ad_of_live_ecpm_0_is_not_bid_whatever_answers(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine, popular=1) as service:

        async def bid(user: str, deadline_ms: float) -> bytes | None:
            request = service.bid_type.model_validate({"id": "r", "imp": [{"id": "1"}], "user": {"id": user}})
            return await service.bid(request, deadline_ms, time.monotonic())

        assert await bid("u", 2000)
        worthless = HeardEcpm(["v1-ad", "popular-0"])
        service.model = replace(service.model, live_ecpm=worthless)
        assert await bid("u", 2000) is None
        engine.gate.clear()
        assert await bid("u", 60) is None and await bid("other", 60) is None
        assert await ask(service, deadline_ms=60, user_id="u", count=4) is not None, "/v1/ads shows it"
        worthless.hear("v1-ad", 2.0)
        assert await bid("u", 60), "from the cache"
