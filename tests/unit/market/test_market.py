"""The simulated market: its rates, its truth, its budgets and drift, and a log that the platform can prepare."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.market.calibration import AGGREGATES, measure_traffic
from adbeam.market.config import MarketConfig
from adbeam.market.log import KEEP, catalogue, write_log
from adbeam.market.play import NOTHING, Market, examination
from adbeam.market.world import World
from adbeam.records import DAY_MS

CONFIG = MarketConfig(users=300, ads=200, days=12, categories=8, advertisers=20, brands=10)
TRAFFIC = Path(__file__).parents[4] / "shared" / "data" / "ad_market" / "traffic_share.csv.gz"


@pytest.fixture(scope="module")
def world() -> World:
    return World(CONFIG, seed=0)


def test_the_same_seed_gives_the_same_market(world: World) -> None:
    again, other = World(CONFIG, seed=0), World(CONFIG, seed=1)
    requests = world.requests(3)
    assert np.array_equal(world.logging_choice(requests), again.logging_choice(again.requests(3)))
    assert not np.array_equal(world.bid_N, other.bid_N)
    assert (np.diff(requests.time_R) >= 0).all() and (requests.time_R // DAY_MS == requests.time_R[0] // DAY_MS).all()


def test_rates_are_those_asked_for(world: World) -> None:
    requests = world.requests(6, 20_000)
    ads = world.logging_choice(requests)
    click = world.click_probability(requests.user_R, ads, 6)
    assert click.mean() == pytest.approx(CONFIG.click_rate, rel=0.1)
    rate = np.average(world.conversion_probability(requests.user_R, ads), weights=click)
    assert rate == pytest.approx(CONFIG.conversion_rate, rel=0.1)
    assert all(len(set(row)) == CONFIG.slots for row in ads[:200].tolist()), "an ad is shown once"
    assert world.live(6)[ads].all()


def test_draws_agree_with_the_truth(world: World) -> None:
    requests = world.requests(5, 40_000)
    ads = world.logging_choice(requests)
    drawn, expected = Market(world).play(requests, ads), Market(world).expected_revenue(requests, ads)
    assert drawn.looked.mean(0) == pytest.approx(examination(CONFIG.slots), abs=0.01)
    spread = drawn.paid.sum(1).std() / np.sqrt(len(requests))
    assert drawn.paid.sum(1).mean() == pytest.approx(expected.mean(), abs=4 * spread)
    assert (drawn.convert_ms[drawn.converted] > drawn.click_ms[drawn.converted]).all()
    assert (drawn.clicked | ~drawn.converted).all() and (drawn.looked | ~drawn.clicked).all()


def test_budgets_are_never_overspent() -> None:
    world = World(CONFIG.model_copy(update={"budget_impressions": 20.0}), seed=0)
    market, requests = Market(world), world.requests(5, 5000)
    ads = world.logging_choice(requests)
    first = market.expected_revenue(requests.part(0, 2500), ads[:2500]).sum()
    second = market.expected_revenue(requests.part(2500, 5000), ads[2500:]).sum()
    assert (market.spent_N <= world.budget_N * (1 + 1e-9)).all()
    assert first + second == pytest.approx(market.spent_N.sum()) and second < first
    assert market.affordable(5).sum() < world.live(5).sum() <= market.affordable(6).sum() + CONFIG.ads // 10
    whole = Market(world).expected_revenue(requests, ads).sum()
    assert whole == pytest.approx(first + second)


def test_empty_places_and_dead_ads_bring_nothing(world: World) -> None:
    requests = world.requests(5, 50)
    market = Market(world)
    assert not market.expected_revenue(requests, np.full((50, 3), NOTHING)).any()
    dead = np.flatnonzero(~world.live(5))
    if len(dead):
        assert not market.expected_revenue(requests, np.full((50, 1), dead[0])).any()
    assert not market.play(requests, np.full((50, 3), NOTHING)).clicked.any()


def test_tastes_drift_and_new_ads_come(world: World) -> None:
    users = np.arange(50)
    near, far = ((world.taste(users, 0) * world.taste(users, day)).sum(1).mean() for day in (5, 90))
    assert near > 0.95 > 0.8 > far
    assert (world.live(20) & ~world.live(0)).sum() > 5 and (world.live(0) & ~world.live(40)).sum() > 5


def test_the_log_is_one_that_the_platform_prepares(world: World, tmp_path: Path) -> None:
    settings = write_log(world, tmp_path / "log")
    config = LogsConfig.parse({**settings, "shards": 2})
    prepared = run(SimpleNamespace(work_dir=tmp_path, logs=config), in_process=True)
    assert prepared.account["quarantined"] == 0 and prepared.account["catalogue"]["kept"] == CONFIG.ads
    assert set(prepared.account["actions"]) == {"impression", "click", "conversion"}
    events = pq.read_table(tmp_path / "log" / "events.parquet")
    shown = events.filter(pc.equal(events["action"], "impression"))
    exposures = sum(len(world.requests(day)) for day in range(CONFIG.days)) * examination(CONFIG.slots).sum()
    assert pc.sum(shown["exposure_weight"]).as_py() == pytest.approx(exposures, rel=0.05)
    assert set(pc.unique(shown["exposure_weight"]).to_pylist()) == {1.0, float(KEEP)}
    assert catalogue(world)["title"][0].as_py().startswith("simulated")


@pytest.mark.skipif(not TRAFFIC.is_file(), reason="the real data is not here")
def test_traffic_is_that_of_the_real_log() -> None:
    assert measure_traffic(TRAFFIC) == pytest.approx(AGGREGATES.traffic_by_hour, abs=1e-3)
