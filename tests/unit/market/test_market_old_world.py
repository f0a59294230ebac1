"""A market without organic items, further scenes, segments and targeting is the one that there was before."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from adbeam.market.config import MarketConfig
from adbeam.market.log import write_log
from adbeam.market.play import Market
from adbeam.market.workdir import tokenize_market
from adbeam.market.world import World

PLAIN = MarketConfig(users=120, ads=150, days=8, categories=8, advertisers=20, brands=10)
BUDGETS = PLAIN.model_copy(update={"budget_impressions": 40.0, "click_rate": 0.2, "season_scale": 1.0})


def digest(config: MarketConfig, seed: int, folder: Path) -> str:
    """Of the truth, the traffic, the log's files read again, the semantic IDs and what lists earn.

    Numbers count to nine digits: machines differ in the last ones of a float.
    """
    found = hashlib.sha256()

    def take(*arrays: np.ndarray) -> None:
        for array in arrays:
            found.update(np.round(array.astype(np.float64), 9).tobytes() + b"|")

    world = World(config, seed)
    take(world.interest_NK, world.quality_N, world.appeal_N, world.bid_N, world.birth_N, world.end_N, world.budget_N)
    take(world.intent_UK, world.activity_U, np.array([world.click_bias, world.conversion_bias]))
    market = Market(world)
    for day in (0, 3, 9):
        requests = world.requests(day)
        ads = world.logging_choice(requests)
        take(requests.user_R, requests.time_R, requests.scene_R, ads, world.taste(requests.user_R, day))
        take(world.click_probability(requests.user_R, ads, day), world.ecpm(requests.user_R, ads, day))
        take(market.expected_revenue(requests, ads), market.play(requests, ads).convert_ms)
    settings = write_log(world, folder / "log")
    for name in ("events", "catalogue"):
        table = pq.read_table(folder / "log" / f"{name}.parquet")
        found.update(json.dumps([table.column_names, table.slice(0, 400).to_pylist()]).encode())
    found.update(json.dumps(settings, default=str).replace(str(folder), "").encode())
    take(tokenize_market(world, folder, (8, 8, 16)))
    return found.hexdigest()[:16]


@pytest.mark.parametrize(
    ("config", "seed", "before"), [(PLAIN, 0, "b7cf9b4d30b77879"), (BUDGETS, 7, "7e7cd33e8cad9634")]
)
def test_old_settings_and_seeds_give_the_same_world(
    config: MarketConfig, seed: int, before: str, tmp_path: Path
) -> None:
    assert digest(config, seed, tmp_path) == before
    told = World(config, seed).describe()
    assert not set(told) & {"organic_items", "scenes", "scene_rotation", "segments", "segment_taste", "targeting"}
    assert World(config.model_copy(update={"scenes": 6}), seed).describe()["scenes"] == 6
