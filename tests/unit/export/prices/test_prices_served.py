"""Prices corrected by what a bundle's own answers brought."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.export.prices.served import Served, read_served, reprice
from adbeam.pricing.scale import AdPrices, MoneyScale, prices_of
from adbeam.records import EVENT_SCHEMA, REQUEST_SCHEMA


def one_price() -> AdPrices:
    """Two ads, of 2.00 and 4.00 a target, at a rate that follows log p."""
    scale = MoneyScale(1.0, -20.0, -1.0, 0.0, ((), ()), {})
    return prices_of(scale, ["a", "b"], base=np.zeros(2), own=np.ones(2), mean=np.array([2.0, 4.0]),
                     plain=np.array([20.0, 40.0]))  # fmt: skip


def served_log(rng: np.random.Generator, shown: int, rate_of: dict[str, float]) -> Served:
    """Half of it fallback; targets come at `rate_of` times what was expected."""
    ad, late, fallback = (rng.random(shown) < 0.5 for _ in range(3))
    expected = np.exp(rng.normal(-4.5, 0.5, shown))
    worth = np.where(ad, 4.0, 2.0)
    factor = np.where(fallback, rate_of["fallback"], np.where(late, rate_of["late"], rate_of["early"]))
    came = rng.random(shown) < expected * factor
    return Served(np.where(ad, "b", "a").astype(object), np.where(late, "late", "early").astype(object), fallback,
                  1000 * expected * worth, came.astype(float), came * worth)  # fmt: skip


def test_prices_follow_what_came_by_scene_and_for_fallbacks_apart() -> None:
    factors = {"early": 0.5, "late": 0.8, "fallback": 0.3}
    prices, found = reprice(one_price(), served_log(np.random.default_rng(0), 200_000, factors))
    before = one_price()
    for scene in ("early", "late"):
        ratio = prices.price("a", scene, -4.5, 1.0) / before.price("a", scene, -4.5, 1.0)
        assert ratio == pytest.approx(factors[scene], rel=0.12)
    anybody = prices.plain("b")
    assert anybody is not None and anybody == pytest.approx(40.0 * 0.3, rel=0.1)
    assert found["model"]["priced"] > found["model"]["came"] > 0 and found["fallback"]["impressions"] > 90_000


def test_a_second_correction_finds_little_left() -> None:
    rng, factors = np.random.default_rng(1), {"early": 0.5, "late": 0.5, "fallback": 0.5}
    once, _ = reprice(one_price(), served_log(rng, 200_000, factors))
    same = {"early": 1.0, "late": 1.0, "fallback": 1.0}
    again, _ = reprice(once, served_log(rng, 200_000, same))
    sums = [
        sum(prices.price("a", "late", log_p, 1.0) for log_p in np.linspace(-5.5, -3.5, 9)) for prices in (again, once)
    ]
    assert sums[0] == pytest.approx(sums[1], rel=0.1)


def test_few_targets_move_little() -> None:
    few = served_log(np.random.default_rng(2), 60, {"early": 0.0, "late": 0.0, "fallback": 0.0})
    prices, _ = reprice(one_price(), few)
    assert prices.price("a", "late", -4.5, 1.0) > 0.7 * one_price().price("a", "late", -4.5, 1.0)


def write(table: dict[str, list[Any]], schema: pa.Schema, path: Path) -> Path:
    count = len(next(iter(table.values())))
    empty = {"user_id": "u", "timestamp": 1, "scene": "s", "item_kind": "ad", "sids": [], "log_probabilities": []}
    columns = {name: table.get(name, [empty.get(name)] * count) for name in schema.names}
    pq.write_table(pa.table(columns, schema=schema), path)
    return path


def test_logs_of_serving_are_joined_by_request_and_ad_and_events_count_once(tmp_path: Path) -> None:
    requests = write(
        {"request_id": ["r1", "r2", "old"], "scene": ["top", "top", "top"], "source": ["model", "fallback", "model"],
         "model_version": ["v2", "v2", "v1"], "item_ids": [["a", "b"], ["a"], ["a"]],
         "expected_ecpm": [[20.0, 40.0], [None], [9.0]]},
        REQUEST_SCHEMA, tmp_path / "requests-1.parquet",
    )  # fmt: skip
    events = write(
        {"event_id": ["1", "2", "2", "3", "4", "5"], "request_id": ["r1", "r1", "r1", "r1", "r2", "old"],
         "item_id": ["a", "a", "a", "c", "a", "a"], "price": [None, 5.0, 5.0, None, None, None],
         "action": ["impression", "conversion", "conversion", "impression", "impression", "impression"]},
        EVENT_SCHEMA, tmp_path / "events-1.parquet",
    )  # fmt: skip
    served = read_served([requests], [events], "v2", "conversion")
    assert served.item_X.tolist() == ["a"] and served.priced_X.tolist() == [20.0]
    assert served.targets_X.tolist() == [1.0] and served.money_X.tolist() == [5.0]
    assert len(read_served([], [], "v2", "conversion")) == 0
