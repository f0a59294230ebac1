"""From a log to prices: what an order is worth to a bid depends on how many impressions it takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.support.bundles import random_catalogue, random_model_config

from adbeam.errors import UserError
from adbeam.export.prices.from_log import money_of, told
from adbeam.export.prices.held_out import followed
from adbeam.inference.recommender import Recommender
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences
from adbeam.model.lazyar import LazyAR
from adbeam.pricing.stored import BundleMoney
from adbeam.records import CATALOGUE_SCHEMA, EVENT_SCHEMA

CONFIG = random_model_config()
ITEMS, ORDERS, DAY_MS = 40, 240, 86_400_000
VALIDATION, END = 20 * DAY_MS, 30 * DAY_MS


def event(number: int, order: int, action: str, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng((order, number if action == "impression" else 10**6))
    item = order % 30 if action == "conversion" or number == 0 else int(rng.integers(30))
    return {
        "event_id": f"{order}-{number}-{action}", "request_id": f"r{order}", "user_id": f"u{order % 24}",
        "timestamp": order * END // ORDERS + (5000 if action == "conversion" else number), "item_id": f"item-{item}",
        "item_kind": "ad", "scene": "display", "action": action, **more,
    }  # fmt: skip


def prepared_with(folder: Path, shown: int, weight: float | None = None, **changes: Any) -> PreparedLog:
    """Orders of 50.00, each after `shown` impressions, of which the first is of the ad that is bought; each stands for
    `weight` where it is given."""
    rows = [event(number, order, "impression") for order in range(ORDERS) for number in range(shown)]
    orders = [event(0, order, "conversion", price=50.0) for order in range(ORDERS)]
    for place, amount in changes.items():
        orders[int(place.removeprefix("order"))]["price"] = amount
    folder.mkdir(parents=True)
    events = pa.Table.from_pylist([*rows, *orders], schema=EVENT_SCHEMA)
    files: dict[str, Any] = {"events": str(folder / "events.parquet"), "catalogue": str(folder / "catalogue.parquet")}
    if weight is not None:
        events = events.append_column("stands_for", pa.array([weight] * len(rows) + [1.0] * len(orders)))
        files |= {"events": {"path": files["events"], "features": {"stands_for": "number"}}}
        files["impression_weight"] = "stands_for"
    pq.write_table(events, folder / "events.parquet")
    pq.write_table(random_catalogue(ITEMS, CONFIG).select(CATALOGUE_SCHEMA.names), folder / "catalogue.parquet")
    logs = {
        "source": "files", "shards": 2,
        "files": files,
        "split": {"by": "time", "validation_from": VALIDATION, "test_from": 25 * DAY_MS},
    }  # fmt: skip
    return run(SimpleNamespace(work_dir=folder, logs=LogsConfig.parse(logs)), in_process=True)


def money(prepared: PreparedLog) -> BundleMoney | None:
    torch.manual_seed(0)
    ranks = Recommender(LazyAR(CONFIG), random_catalogue(ITEMS, CONFIG), [50.0] * CONFIG.ecpm_buckets,
                        include_paused=True, ecpm=True)  # fmt: skip
    return money_of(prepared, ranks, "conversion", {f"item-{n}": 5 for n in range(30)}, 500)


def bids(found: BundleMoney | None) -> np.ndarray:
    """Of all ads to a user of whom the model says what it says on average."""
    assert found is not None and found.prices is not None
    scale = found.prices.scale
    usual = (scale.log_p_low + scale.log_p_high) / 2
    return np.array([found.prices.price(f"item-{n}", "display", usual, 50.0) for n in range(30)])


def test_twenty_impressions_an_order_are_worth_a_twentieth_of_one(tmp_path: Path) -> None:
    few, many = (money(prepared_with(tmp_path / str(shown), shown)) for shown in (1, 20))
    assert bids(few) == pytest.approx(50_000, rel=0.1)
    assert bids(many).mean() == pytest.approx(2_500, rel=0.15)
    assert few is not None and few.found["came"] == pytest.approx(50_000)
    assert many is not None and "brought 2,500.00" in told(many, priced=True)


def test_impressions_that_stand_for_ten_make_an_order_a_tenth_as_frequent(tmp_path: Path) -> None:
    one, ten = (money(prepared_with(tmp_path / str(weight), 4, weight)) for weight in (1.0, 10.0))
    assert bids(ten).mean() == pytest.approx(bids(one).mean() / 10, rel=0.03)
    assert one is not None and ten is not None and ten.found["came"] == pytest.approx(one.found["came"] / 10)


@pytest.mark.parametrize("weight", [0.0, -8.0])
def test_a_weight_below_one_is_refused_by_name(tmp_path: Path, weight: float) -> None:
    with pytest.raises(UserError, match=r"logs\.files\.impression_weight: .*'stands_for' holds"):
        money(prepared_with(tmp_path / "log", 2, weight))


def test_one_order_in_micros_moves_no_price_by_more_than_a_hundredth(tmp_path: Path) -> None:
    clean = bids(money(prepared_with(tmp_path / "clean", 5)))
    planted = bids(money(prepared_with(tmp_path / "planted", 5, order7=50_000_000.0)))
    assert planted == pytest.approx(clean, rel=0.01)


def test_a_log_without_impressions_has_no_prices_and_says_that_nothing_is_bid(tmp_path: Path) -> None:
    found = money(prepared_with(tmp_path / "orders", 0))
    assert found is None and "engine.ecpm_scale" in told(found, priced=True)
    assert "live eCPM" in told(None, priced=False)


def test_what_follows_belongs_to_the_impression_of_its_request_else_to_the_newest(tmp_path: Path) -> None:
    prepared = prepared_with(tmp_path / "log", 2)
    for shard in prepared.sequences():
        for sequence in read_sequences(shard):
            owner_H = followed(sequence, "conversion")
            for place in np.flatnonzero(owner_H >= 0):
                owner = owner_H[place]
                assert sequence.item_H[owner] == sequence.item_H[place] and owner < place
                assert sequence.request_H[owner] == sequence.request_H[place]
