"""Budgets of campaigns in answers: held back, spent, paused in every kind of answer, back on the next day."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.list_rules.random_lists import random_bundle

from adbeam.beams.cost import BatchCost
from adbeam.budgets.campaigns import CampaignBudgets, cost
from adbeam.budgets.config import BudgetsConfig
from adbeam.budgets.ledger import Budget, day_of
from adbeam.budgets.sqlite import SqliteLedger
from adbeam.records import DAY_MS, Event
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import now_ms

NOON = 1_777_000_000_000 // DAY_MS * DAY_MS + DAY_MS // 2
SLOW = {"poll_ms": 1000.0}


class _Clock:
    def __init__(self) -> None:
        self.now_ms = NOON

    def __call__(self) -> int:
        return self.now_ms


def _ad(item_id: str, ecpm: float | None, campaign: str | None = "spring") -> dict[str, Any]:
    return {"item_id": item_id, "campaign": campaign, "expected_ecpm": ecpm}


def _shown(number: int, item_id: str, at_ms: int, **money: float) -> Event:
    event = {"event_id": f"e{number}", "request_id": f"r{number}", "user_id": "u", "timestamp": at_ms}
    return Event.model_validate({**event, "action": "impression", "item_id": item_id, **money})


def _campaigns(items: Any) -> list[str | None]:
    return ["spring" if item.startswith("s") else None for item in items]


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def _open(folder: Path, clock: _Clock, **settings: Any) -> tuple[CampaignBudgets, SqliteLedger]:
    ledger = SqliteLedger(folder / "b.sqlite")
    config = BudgetsConfig(path=folder / "b.sqlite", **{**SLOW, **settings})
    return CampaignBudgets(ledger, config, Metrics(), clock), ledger


def test_a_campaign_pauses_with_the_answer_that_takes_its_last_money(tmp_path: Path, clock: _Clock) -> None:
    SqliteLedger(tmp_path / "b.sqlite").set("spring", Budget(day=0.02))
    one, _ = _open(tmp_path, clock)
    other, _ = _open(tmp_path, clock)
    one.answered("r1", [_ad("s1", 12.0), _ad("x", 99.0, None), _ad("s2", None), _ad("a", 5.0, "free")])
    assert not one.paused
    one.answered("r1", [_ad("s1", 12.0)])  # the same answer
    assert not one.paused
    one.answered("r2", [_ad("s1", 8.0)])
    assert one.paused == {"spring"} and not other.paused
    one.poll()
    other.poll()
    assert one.paused == other.paused == {"spring"}
    clock.now_ms += 60_001  # no impression came
    one.poll()
    other.poll()
    assert not one.paused and not other.paused
    for budgets in (one, other):
        budgets.close()


def test_impressions_spend_and_take_the_place_of_what_was_held_back(tmp_path: Path, clock: _Clock) -> None:
    SqliteLedger(tmp_path / "b.sqlite").set("spring", Budget(day=1.0, total=1.5))
    budgets, ledger = _open(tmp_path, clock)
    budgets.answered("r1", [_ad("s1", 900.0)])
    budgets.spend([_shown(1, "s1", NOON, price=0.4), _shown(2, "s2", NOON, ecpm=100.0)], _campaigns)
    budgets.spend([_shown(1, "s1", NOON, price=0.4), _shown(3, "x", NOON, price=9.0)], _campaigns)
    budgets.poll()
    account = ledger.accounts(day_of(NOON, "UTC"), NOON)["spring"]
    assert account.today == pytest.approx(0.5) and account.reserved == 0.0 and not budgets.paused
    budgets.spend([_shown(4, "s1", NOON, price=0.5)], _campaigns)
    budgets.poll()
    assert budgets.paused == {"spring"}
    clock.now_ms += DAY_MS // 2
    budgets.poll()
    assert not budgets.paused, "it is back at the turn of the day"
    budgets.spend([_shown(5, "s1", clock.now_ms, price=0.5)], _campaigns)
    budgets.poll()
    assert budgets.paused == {"spring"}, "the money in all is gone"
    budgets.close()


def test_a_ledger_that_fails_leaves_paused_who_was(tmp_path: Path, clock: _Clock, monkeypatch: Any) -> None:
    SqliteLedger(tmp_path / "b.sqlite").set("spring", Budget(day=0.1))
    budgets, ledger = _open(tmp_path, clock, poll_ms=5.0)
    budgets.spend([_shown(1, "s1", NOON, price=0.2)], _campaigns)
    budgets.poll()

    def broken(day: str, now_ms: int) -> Any:
        raise OSError("disk")

    monkeypatch.setattr(ledger, "accounts", broken)
    time.sleep(0.1)
    assert budgets.paused == {"spring"}
    budgets.close()


def test_pacing_even_spends_a_day_evenly(tmp_path: Path, clock: _Clock) -> None:
    ledger = SqliteLedger(tmp_path / "b.sqlite")
    ledger.set("spring", Budget(day=24.0, pacing="even"))
    clock.now_ms = NOON - DAY_MS // 2
    budgets, _ = _open(tmp_path, clock)
    hours = [0.0] * 24
    for number in range(24 * 60 * 2):  # two requests a minute, more than the budget pays for
        clock.now_ms += 30_000 - (number % 2)
        budgets.poll()
        if "spring" not in budgets.paused:
            budgets.spend([_shown(number, "s1", clock.now_ms, price=0.05)], _campaigns)
            hours[min(23, number // 120)] += 0.05
    assert sum(hours) == pytest.approx(24.0, rel=0.05) and max(hours) <= 1.1
    budgets.close()


def test_what_an_impression_costs() -> None:
    assert cost(_shown(1, "a", 1, price=0.3, ecpm=100.0)) == 0.3
    assert cost(_shown(1, "a", 1, ecpm=100.0)) == 0.1 and cost(_shown(1, "a", 1)) == 0.0


async def test_a_paused_campaign_is_in_no_kind_of_answer(tmp_path: Path) -> None:
    random_bundle(tmp_path / "b", 80, 4)
    config = ServingConfig.resolve({
        "bundle": "b", "budgets": {"path": "budgets.sqlite", "poll_ms": 5}, "cache": {"answer_repeats": True},
        "deadline": {"min_ms": 0.1},
    }, tmp_path)  # fmt: skip
    ledger = SqliteLedger(tmp_path / "budgets.sqlite")
    ledger.set("spring", Budget(day=1.0))
    policy, store, metrics = read_policy("deadline"), SqliteStore(tmp_path / "h.sqlite"), Metrics()
    model = load_model(config.bundle, config, policy, store, metrics, BatchCost(1.0, 0.5, 0.01))
    service = RecommenderService(config, model, policy, store, metrics)
    service.start()

    async def ask(deadline_ms: float = 5000.0, count: int = 8, **more: Any) -> tuple[str, list[Any], Any]:
        body = {"user_id": "u", "count": count, **more}
        request = service.request_type.model_validate_json(json.dumps(body))
        answer = json.loads(await service.ads(request, deadline_ms, time.monotonic()) or b"{}")
        return answer["served"]["source"], [ad.get("campaign") for ad in answer["ads"]], answer.get("debug")

    _, campaigns, _ = await ask(count=40)
    assert "spring" in campaigns
    spring = next(row["item_id"] for row in model.engine.bundle.catalogue.to_pylist() if row["campaign"] == "spring")  # type: ignore[attr-defined]
    event = {"event_id": "e", "request_id": "r", "user_id": "0", "timestamp": now_ms(), "item_id": spring,
             "action": "impression", "price": 1.5}  # fmt: skip
    batch = service.event_type.model_validate_json(json.dumps({"events": [event]}))
    assert json.loads(await service.events(batch))["nobody"] == 1, "what is shown to nobody costs money too"
    until = time.monotonic() + 5
    while "spring" not in service._feedback.spent:
        assert time.monotonic() < until
        time.sleep(0.005)
    assert service._feedback.spent == {"spring"}
    for deadline_ms, count, source in ((5000.0, 40, "cache"), (0.2, 9, "fallback"), (5000.0, 30, "model")):
        found, campaigns, _ = await ask(deadline_ms, count)
        assert found == source and "spring" not in campaigns and len(campaigns) == count
    _, campaigns, debug = await ask(count=5, debug=True)
    assert any("budget" in one["rules"] for one in debug["left_out"])
    ledger.set("spring", None)
    while service._feedback.spent:
        time.sleep(0.005)
    assert "spring" in (await ask(count=41))[1]
    service.close()
