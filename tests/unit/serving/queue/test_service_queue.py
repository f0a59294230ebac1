"""One replica without Ray under load: a bounded queue, who is given up, and narrower beams."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.serving.gated_engine import FULL, GatedEngine, ask, running, until

from adbeam.beams.cost import BatchCost
from adbeam.serving.http.answer_schemas import ReplicaStatus
from adbeam.serving.http.problems import Problem
from adbeam.serving.queue.decode_loop import FAILURES_BEFORE_FAULT


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


async def test_a_batch_that_cannot_be_planned_is_answered_and_the_thread_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, GatedEngine(), cost=BatchCost(1.0, 1.0, 0.001)) as service:
        with monkeypatch.context() as broken:
            broken.setattr(service.decoding._controller, "plan", lambda queue: [][0])
            for user in range(FAILURES_BEFORE_FAULT):
                answer = await ask(service, user_id=f"unlucky{user}")
                assert answer is not None and answer["served"]["source"] == "fallback"
            assert "decodes failed" in str(service.health())
        answer = await ask(service, user_id="next")
        assert answer is not None and answer["served"]["source"] == "model"
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
