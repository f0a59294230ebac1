"""The benchmark of money, in little: a market of a few users, and untrained answers are still priced and judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.market_samples import make_market, market_config

from adbeam.bundle import load_bundle, write_again
from adbeam.pricing.scale import MoneyScale, prices_of
from adbeam.pricing.stored import BundleMoney
from adbeam.workdir import WorkDir
from benchmarks.money.answers import Bidder, calibration, post


def test_answers_are_priced_judged_and_posted(tmp_path: Path) -> None:
    world = make_market(tmp_path, market_config(tmp_path))
    bundles = WorkDir(tmp_path).bundles
    bundle = load_bundle(bundles)
    items, n = bundle.catalogue["item_id"].to_pylist(), len(bundle.catalogue)
    bid_n = world.bid_N[[int(item.removeprefix("ad")) for item in items]]
    scale = MoneyScale(0.0, -30.0, -0.1, 0.0, ((), ()), {"feed": 2.0})
    prices = prices_of(scale, items, base=np.full(n, -3.0), own=np.ones(n), mean=bid_n, plain=bid_n)
    write_again(bundles, bundle, {}, money=BundleMoney("impressions", prices))
    bidder = Bidder(world, tmp_path)
    requests = world.requests(world.config.days, 40)
    for answers in (bidder.model(requests, 4), bidder.fallback(requests, 4)):
        found = calibration(answers, world)
        assert found["overall"] > 0 and len(found["deciles"]) == 10
        feed, known_Rn = answers.requests.scene_R[:, None] == 0, answers.ad_Rn >= 0
        assert known_Rn.mean() > 0.5 and np.isfinite(answers.priced_Rn[known_Rn]).all()
        bid_Rn = world.bid_N[answers.ad_Rn]
        expected = 1000 * np.exp(-3.0) * bid_Rn if answers.source == "model" else bid_Rn
        expected = np.where(feed, 2 * expected, expected)
        assert answers.priced_Rn[known_Rn] == pytest.approx(expected[known_Rn])
        post(answers, world, tmp_path, answers.source)
    assert len(list(WorkDir(tmp_path).events.glob("events-*.parquet"))) == 2
