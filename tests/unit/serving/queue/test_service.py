"""One replica without Ray: deadlines kept, bounded queue, cache and fallback, health, events, model swaps."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adbeam.beams.cost import BatchCost
from adbeam.catalogue.ads import PopularAds
from adbeam.decoding.trie.paths import Step
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.loaded_model import LoadedModel, ModelFacts
from adbeam.serving.engine.request import Answer, Query
from adbeam.serving.http.problems import Problem
from adbeam.serving.http.schemas import AdResponse, ReplicaStatus
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import now_ms

FULL = (8, 16)


def ad(name: str, score: float = 1.0) -> dict[str, Any]:
    return {"item_id": name, "title": name, "price": 1.0, "sid": [1, 2], "score": score, "probability": 0.5,
            "expected_ecpm": 2.0}  # fmt: skip


class GatedEngine:
    """Decodes when the gate is open; remembers what it was asked."""

    def __init__(self, version: str = "v1") -> None:
        self.version = version
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[Query]] = []
        self.fails = False
        self.poison = ""

    def prepare_thread(self) -> None:
        pass

    def close(self) -> None:
        pass

    def path(self, sid: Sequence[int]) -> list[Step]:
        raise NotImplementedError

    def answer(self, queries: Sequence[Query], schedules: Sequence[tuple[int, ...]]) -> list[Answer]:
        self.batches.append(list(queries))
        self.gate.wait(10)
        if self.fails:
            raise RuntimeError("no luck")
        if self.poison and any(query.user_id == self.poison for query in queries):
            raise RuntimeError("bad request")
        return [Answer([] if query.scene == "empty" else [ad(f"{self.version}-ad")], True, 2.0) for query in queries]


def model_of(engine: GatedEngine, popular: int = 3, cost: BatchCost | None = None) -> LoadedModel:
    ads: list[tuple[dict[str, Any], str | None, str | None]]
    ads = [(ad(f"popular-{place}", 1 / (1 + place)), f"advertiser-{place}", None) for place in range(popular)]
    cost = cost or BatchCost(0.1, 0.1, 0.001)
    facts = ModelFacts(engine.version, cost, FULL, None, ("feed", "empty"))
    return LoadedModel(engine, facts, PopularAds(ads), time.monotonic())


@asynccontextmanager
async def running(
    tmp_path: Path, decoder: GatedEngine, *, policy: dict[str, Any] | None = None, popular: int = 3,
    cost: BatchCost | None = None, **args: Any,
) -> AsyncIterator[RecommenderService]:  # fmt: skip
    service = RecommenderService(
        ServingConfig.parse(args), model_of(decoder, popular, cost), read_policy(policy or "deadline"),
        SqliteStore(tmp_path / "h.sqlite"), Metrics(),
    )  # fmt: skip
    service.start()
    try:
        yield service
    finally:
        decoder.gate.set()
        service.close()


async def ask(service: RecommenderService, deadline_ms: float = 2000.0, **body: Any) -> dict[str, Any] | None:
    request = service.request_type.model_validate_json(json.dumps(body))
    answer = await service.ads(request, deadline_ms, time.monotonic())
    if answer is None:
        return None
    return AdResponse.model_validate_json(answer).model_dump()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


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


async def test_the_queue_is_bounded_and_so_are_requests_in_flight(tmp_path: Path) -> None:
    engine = GatedEngine()
    policy = {"policy": "deadline", "max_queue": 2, "max_batch": 1}
    async with running(tmp_path, engine, policy=policy, admission={"max_in_flight": 4}) as service:
        engine.gate.clear()
        first = asyncio.create_task(ask(service, user_id="a"))
        await until(lambda: len(engine.batches) == 1)
        waiting = [asyncio.create_task(ask(service, user_id=f"w{n}")) for n in range(2)]
        await until(lambda: service.decoding.depth == 2)
        full = await ask(service, user_id="x")
        assert full is not None and full["served"]["source"] == "fallback"
        hanging = asyncio.create_task(ask(service, user_id="y"))
        await asyncio.sleep(0)
        service.in_flight = 4
        with pytest.raises(Problem) as refused:
            await ask(service, user_id="z")
        assert refused.value.status == 503
        service.in_flight = 3
        engine.gate.set()
        answers = await asyncio.gather(first, *waiting, hanging)
        assert all(answer is not None for answer in answers)
        assert service.in_flight == 0


async def test_without_early_answers_late_requests_wait_and_a_full_queue_sheds(tmp_path: Path) -> None:
    engine = GatedEngine()
    policy = {"policy": "static", "max_queue": 1, "max_batch": 1, "answer_late_early": False}
    async with running(tmp_path, engine, policy=policy) as service:
        engine.gate.clear()
        late = [asyncio.create_task(ask(service, deadline_ms=40, user_id="a"))]
        await until(lambda: len(engine.batches) == 1)
        late.append(asyncio.create_task(ask(service, deadline_ms=40, user_id="b")))
        await until(lambda: service.decoding.depth == 1)
        with pytest.raises(Problem) as refused:
            await ask(service, user_id="c")
        assert refused.value.status == 503 and "Retry-After" in refused.value.headers
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in late)
        engine.gate.set()
        assert [answer["served"]["source"] for answer in await asyncio.gather(*late) if answer] == ["model"] * 2


async def test_a_full_queue_gives_up_its_least_valuable_request_for_a_better_one(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine, policy={"policy": "deadline", "max_queue": 2, "max_batch": 1}) as service:
        engine.gate.clear()
        first = asyncio.create_task(ask(service, user_id="first"))
        await until(lambda: len(engine.batches) == 1)
        cheap = asyncio.create_task(ask(service, user_id="cheap", value=0.5))
        dear = asyncio.create_task(ask(service, user_id="dear", value=5))
        await until(lambda: service.decoding.depth == 2)
        same = await ask(service, user_id="same", value=0.5)
        assert same is not None and same["served"]["source"] == "fallback"
        better = asyncio.create_task(ask(service, user_id="better", value=2))
        given_up = await cheap
        assert given_up is not None and given_up["served"]["source"] == "fallback"
        engine.gate.set()
        answers = await asyncio.gather(first, dear, better)
        assert [answer["served"]["source"] for answer in answers if answer] == ["model"] * 3


async def test_a_request_that_cannot_be_decoded_takes_no_other_with_it(tmp_path: Path) -> None:
    engine = GatedEngine()
    engine.poison = "bad"
    async with running(tmp_path, engine, cost=BatchCost(1.0, 1.0, 0.001)) as service:
        engine.gate.clear()
        first = asyncio.create_task(ask(service, user_id="first"))
        await until(lambda: len(engine.batches) == 1)
        crowd = [asyncio.create_task(ask(service, user_id=user)) for user in ("a", "bad", "b")]
        await until(lambda: service.decoding.depth == 3)
        engine.gate.set()
        answers = await asyncio.gather(first, *crowd)
        assert [a["served"]["source"] for a in answers if a] == ["model", "model", "fallback", "model"]
        assert max(len(batch) for batch in engine.batches) == 3
        for _ in range(5):
            await ask(service, user_id="bad")
        assert "decodes failed" in str(service.health())
        await ask(service)
        assert service.health() is None


async def test_a_cancelled_request_leaves_the_queue(tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine, policy={"max_batch": 1}) as service:
        engine.gate.clear()
        first = asyncio.create_task(ask(service, user_id="a"))
        await until(lambda: len(engine.batches) == 1)
        gone = asyncio.create_task(ask(service, user_id="gone"))
        await until(lambda: service.decoding.depth == 1)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert service.decoding.depth == 0 and service.in_flight == 1
        engine.gate.set()
        await first
        await ask(service, user_id="b")
        assert [query.user_id for batch in engine.batches for query in batch] == ["a", "b"]


async def test_a_backlog_narrows_the_beams_and_batches_requests(tmp_path: Path) -> None:
    engine = GatedEngine()
    cost = BatchCost(1.0, 1.0, 2.0)  # 51 ms a request at full width
    async with running(tmp_path, engine, cost=cost) as service:
        engine.gate.clear()
        first = asyncio.create_task(ask(service, user_id="first", deadline_ms=1500))
        await until(lambda: len(engine.batches) == 1)
        crowd = [asyncio.create_task(ask(service, user_id=f"u{n}", deadline_ms=1500)) for n in range(60)]
        await until(lambda: service.decoding.depth == 60)
        engine.gate.set()
        answers = [answer for answer in await asyncio.gather(*crowd) if answer is not None]
        before = await first
        assert before is not None and before["served"]["rung"] == 0
        decoded = [answer["served"] for answer in answers if answer["served"]["source"] == "model"]
        assert decoded and all(served["rung"] > 0 for served in decoded)
        assert all(sum(served["widths"]) < sum(FULL) for served in decoded)
        assert max(len(batch) for batch in engine.batches) > 1


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


async def test_what_the_autoscaler_reads_follows_the_arrivals(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine(), cost=BatchCost(0.0, 10.0, 0.0001)) as service:
        await asyncio.gather(*[ask(service, user_id=f"u{n}") for n in range(30)])
        figures = service.publish()
        assert figures["arrivals_per_second"] > 0
        assert figures["in_flight"] == 0
        status = ReplicaStatus.model_validate_json(service.status())
        capacity = status.full_width_capacity_per_second  # the cost is corrected by what batches took on this machine
        assert capacity == pytest.approx(100, rel=0.9)
        assert figures["demand_full_width"] == pytest.approx(figures["arrivals_per_second"] / capacity, rel=0.1)
        assert (status.policy, status.model_version, tuple(status.full_widths)) == ("deadline", "v1", FULL)


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
