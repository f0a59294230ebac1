"""Pacing even follows the traffic of the last days: a simulated day is spent to its end, and no hour takes too much."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adbeam.budgets.campaigns import CampaignBudgets
from adbeam.budgets.config import BudgetsConfig
from adbeam.budgets.ledger import Account, Budget
from adbeam.budgets.pacing import CATCH_UP, HourBounds, last_days, pace_at, shares
from adbeam.budgets.sqlite import SqliteLedger
from adbeam.records import DAY_MS, HOUR_MS, Event
from adbeam.serving.monitoring.metrics import Metrics

TIMEZONE = "Europe/Berlin"
MIDNIGHT = int(datetime(2026, 5, 4, 22, tzinfo=UTC).timestamp() * 1000)
"""The 5th of May begins in Berlin."""
REQUESTS = 6000
COST = 0.01
BUDGET = 24.0
"""Less than half of what all impressions would cost."""


def _profile(seed: int) -> np.ndarray:
    """A quiet night, a noon, and an evening of five times the mean; a little different every day."""
    hour = np.arange(24)
    shape = 0.1 + np.exp(-((hour - 12.5) ** 2) / 6) + 2.5 * np.exp(-((hour - 20.5) ** 2) / 2)
    shape *= np.random.default_rng(seed).lognormal(0, 0.08, 24)
    return np.asarray(shape / shape.sum())


class _Day:
    """One day of requests, answered and followed by impressions, in simulated time."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = MIDNIGHT
        self.ledger = SqliteLedger(folder / "b.sqlite")
        config = BudgetsConfig(path=folder / "b.sqlite", timezone=TIMEZONE, poll_ms=1000.0)
        self.budgets = CampaignBudgets(self.ledger, config, Metrics(), lambda: self.now_ms)

    def play(self, number: int, wants: bool = True) -> tuple[list[float], list[float]]:
        """(money, share of the requests) by the hour; most answers become impressions within half a minute."""
        rng = np.random.default_rng(number)
        hour_n = rng.choice(24, REQUESTS, p=_profile(number))
        first = MIDNIGHT + number * DAY_MS
        asked_n = np.sort(first + (hour_n + rng.random(REQUESTS)) * HOUR_MS).astype(np.int64)
        spent, waiting = [0.0] * 24, list[tuple[int, int, float]]()
        for place, moment in enumerate(asked_n.tolist()):
            while waiting and waiting[0][0] <= moment:
                self._show(*heapq.heappop(waiting), number, spent)
            self._to(moment)
            ads = [] if "spring" in self.budgets.paused or not wants else [_AD]
            self.budgets.answered(f"r{number}-{place}", ads)
            if ads and rng.random() < 0.8:
                price = COST * float(rng.lognormal(-0.125, 0.5))
                heapq.heappush(waiting, (moment + int(rng.integers(1, 30_000)), place, price))
        return spent, (np.bincount(hour_n, minlength=24) / REQUESTS).tolist()

    def _to(self, moment: int) -> None:
        self.now_ms = max(self.now_ms, moment)
        self.budgets.poll()

    def _show(self, moment: int, place: int, price: float, day: int, spent: list[float]) -> None:
        if moment < MIDNIGHT + (day + 1) * DAY_MS:
            self._to(moment)
            event = {"event_id": f"e{day}-{place}", "request_id": f"r{day}-{place}", "user_id": "u", "item_id": "a",
                     "timestamp": moment, "action": "impression", "price": price}  # fmt: skip
            self.budgets.spend([Event.model_validate(event)], lambda items: ["spring"] * len(items))
            spent[(moment - MIDNIGHT) % DAY_MS // HOUR_MS] += price


_AD: dict[str, Any] = {"item_id": "a", "campaign": "spring", "expected_ecpm": 1000 * COST}


def test_a_day_is_spent_as_its_traffic_comes(tmp_path: Path) -> None:
    days = _Day(tmp_path)
    for number in range(3):  # the first may have begun in its middle, the others are learnt from
        days.play(number, wants=False)
    known = days.ledger.traffic(last_days("2026-05-08", 7))
    assert sum(known["2026-05-06"].values()) == pytest.approx(REQUESTS, rel=0.01)
    days.ledger.set("spring", Budget(day=BUDGET, pacing="even"))
    for number in (3, 4):
        spent, share = days.play(number)
        assert sum(spent) == pytest.approx(BUDGET, rel=0.05) and sum(spent) < 1.01 * BUDGET
        assert all(money <= 2 * BUDGET * part for money, part in zip(spent, share, strict=True)), (spent, share)
    days.budgets.close()


def test_a_campaign_of_the_afternoon_is_not_thrown_at_one_hour(tmp_path: Path) -> None:
    days = _Day(tmp_path)
    share = {f"2026-05-{day:02d}": dict(enumerate([1] * 24)) for day in (3, 4)}
    for day, hours in share.items():
        for hour, requests in hours.items():
            days.ledger.saw(day, hour, requests)
    days.ledger.set("spring", Budget(day=24.0, pacing="even"))
    days.now_ms = MIDNIGHT + 15 * HOUR_MS
    spent = 0.0
    for place in range(360):
        days._to(days.now_ms + 10_000)
        if "spring" not in days.budgets.paused and days.now_ms < MIDNIGHT + 16 * HOUR_MS:
            days._show(days.now_ms, place, 0.05, 0, [0.0] * 24)
            spent += 0.05
    assert spent == pytest.approx(CATCH_UP * 1.0, abs=0.1)
    days.budgets.close()


def test_shares_are_those_of_whole_days() -> None:
    assert shares({}) is None and shares({"2026-05-01": {3: 9}}) is None, "a first day may have begun in its middle"
    found = shares({"2026-05-01": {0: 1}, "2026-05-02": {1: 10, 2: 30}, "2026-05-03": {2: 7}, "2026-05-04": {}})
    assert found is not None and found[1:3] == pytest.approx((0.125, 0.875)) and sum(found) == pytest.approx(1.0)
    assert last_days("2026-03-02", 2) == ["2026-02-27", "2026-02-28", "2026-03-01"]


def test_a_moment_has_the_share_of_the_hours_before_it() -> None:
    hours = [0.0] * 24
    hours[10], hours[20] = 0.25, 0.75
    at = MIDNIGHT + 20 * HOUR_MS + HOUR_MS // 3
    pace = pace_at(at, TIMEZONE, hours)
    assert (pace.day, pace.hour, pace.of_hour) == ("2026-05-05", 20, 0.75) and pace.behind == pytest.approx(0.5)
    assert pace_at(at, TIMEZONE, None).behind == pytest.approx((20 + 1 / 3) / 24)
    bounds = HourBounds()
    account = Account(Budget(day=10, total=4), today=3.0, total=3.5)
    assert bounds.left("other", account, pace_at(at, TIMEZONE, hours)) == 0.5, "asap knows no hours"
