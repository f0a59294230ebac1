"""Returned money: an answer's expected and returned money are counted together, when its window ends."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from adbeam.records import Event
from adbeam.serving.config import ReturnedMoneyConfig
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.monitoring.returned_money import HOUR_MS, ReturnedMoney


class Replica:
    """A replica's money under a clock of its own."""

    def __init__(self, answers_max: int = 1000) -> None:
        self.now_ms, self.metrics, self.events = 0, Metrics(), 0
        config = ReturnedMoneyConfig(window_hours=1, answers_max=answers_max)
        self.money = ReturnedMoney(config, self.metrics, lambda: self.now_ms)

    def answer(self, name: str, worth: dict[str, float | None], scene: str = "feed", version: str = "v1") -> None:
        ads = [{"item_id": item, "expected_ecpm": ecpm} for item, ecpm in worth.items()]
        self.money.answered(scene, {"request_id": name, "ads": ads, "served": {"model_version": version}})

    def post(self, name: str, item: str, action: str, **money: float) -> None:
        self.events += 1
        columns: dict[str, Any] = {"request_id": name, "item_id": item, "action": action, "event_id": str(self.events)}
        self.money.take([Event(user_id="u", timestamp=1, **columns, **money)])

    def counted(self, hours: float = 2) -> dict[tuple[str, str, str], float]:
        """{(what, scene, version): sum} of the answers whose window has ended."""
        self.now_ms += int(hours * HOUR_MS)
        self.money.publish()
        found: dict[tuple[str, str, str], float] = defaultdict(float)
        for (name, tags), value in self.metrics.take()[0].items():
            found[(name.removeprefix("adbeam_money_"), dict(tags)["scene"], dict(tags)["model_version"])] += value
        return dict(found)


def test_shown_ads_count_their_thousandth_and_conversions_their_price_by_scene_and_model() -> None:
    replica = Replica()
    replica.answer("r1", {"a": 500.0, "b": 900.0})
    replica.answer("r2", {"a": 100.0}, scene="search", version="v2")
    for _ in range(2):
        replica.post("r1", "a", "impression")
    replica.post("r1", "a", "click", price=99.0)
    replica.post("r1", "a", "conversion", price=7.0, bid=50.0)
    replica.post("r2", "a", "conversion", bid=3.0)
    assert replica.counted() == {
        ("expected", "feed", "v1"): 0.5, ("returned", "feed", "v1"): 7.0, ("conversions", "feed", "v1"): 1,
        ("expected", "search", "v2"): pytest.approx(0.1), ("returned", "search", "v2"): 3.0,
        ("conversions", "search", "v2"): 1,
    }  # fmt: skip
    assert replica.counted() == {}


def test_nothing_is_counted_before_its_window_ends_nor_what_comes_after() -> None:
    replica = Replica()
    replica.answer("r1", {"a": 500.0})
    replica.post("r1", "a", "impression")
    assert replica.counted(0.5) == {}
    replica.post("r1", "a", "conversion", price=7.0)
    assert replica.counted(0.6)[("returned", "feed", "v1")] == 7.0
    replica.post("r1", "a", "conversion", price=7.0)
    assert replica.counted() == {}


def test_events_of_others_and_ads_of_unknown_worth_count_for_neither() -> None:
    replica = Replica()
    replica.answer("r1", {"a": 500.0, "b": None})
    replica.answer("never shown", {"a": 500.0})
    for name, item in (("elsewhere", "a"), ("r1", "b"), ("r1", "c")):
        replica.post(name, item, "impression")
        replica.post(name, item, "conversion", price=9.0)
    assert replica.counted() == {}


def test_a_repeated_request_id_keeps_its_first_answer() -> None:
    replica = Replica()
    replica.answer("r1", {"a": 500.0})
    replica.answer("r1", {"a": 90_000.0}, scene="search")
    replica.post("r1", "a", "impression")
    assert replica.counted() == {("expected", "feed", "v1"): 0.5}


def test_a_share_of_too_many_answers_counts_for_all_of_them() -> None:
    replica = Replica(answers_max=300)
    for number in range(4000):
        replica.answer(f"r{number}", {"a": 500.0})
        assert len(replica.money._answers) <= 300
    for number in range(4000):
        replica.post(f"r{number}", "a", "impression")
        if number % 2:
            replica.post(f"r{number}", "a", "conversion", price=1.0)
    counted = replica.counted()
    expected, returned = counted["expected", "feed", "v1"], counted["returned", "feed", "v1"]
    assert expected == pytest.approx(2000, rel=0.25) and expected / returned == pytest.approx(1, rel=0.25)


def test_it_can_be_switched_off() -> None:
    replica = Replica(answers_max=0)
    replica.answer("r1", {"a": 500.0})
    replica.post("r1", "a", "impression")
    assert replica.counted() == {}
