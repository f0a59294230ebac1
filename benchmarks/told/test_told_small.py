"""Markets with and without features at a small size: judged once, read back, summed up in pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.market_samples import MARKET

from adbeam.market.truth.scenes import SCENE_NAMES
from benchmarks.told import market
from benchmarks.told.journey import Journey
from benchmarks.told.market import SETTINGS, Sizes, judged, summed_up

SMALL = MARKET.model_copy(
    update={"users": 80, "ads": 60, "days": 10, "scenes": 6, "segments": 4, "targeting": True, "organic_items": 20}
)
QUICK = Sizes(
    SMALL, requests=20, judged=20, settings=tuple({**SETTINGS, "training.max_steps": 3, "rewards.epochs": 1}.items())
)


def test_a_market_is_judged_once_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    found = judged(tmp_path, 0, QUICK)
    assert all(money > 0 for money in found["revenue"].values())
    assert all(set(auc) == set(SCENE_NAMES) for auc in found["auc"].values())
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"], "only the result stays"
    monkeypatch.setattr(market, "World", None)
    assert judged(tmp_path, 0, QUICK) == found


def test_gains_are_differences_on_the_same_market() -> None:
    def one(with_: float, without: float, auc: float) -> dict[str, object]:
        return {
            "revenue": {"with": with_, "without": without},
            "auc": {"with": dict.fromkeys(SCENE_NAMES, 0.6 + auc), "without": dict.fromkeys(SCENE_NAMES, 0.6)},
        }

    figures = summed_up([one(1.1, 1.0, 0.01), one(2.4, 2.0, 0.03)])
    assert figures["features_revenue_gain"] == pytest.approx(0.15)
    assert figures["features_revenue_gain_lo"] < 0.1 < figures["features_revenue_gain_hi"]
    assert figures["auc_gain"] == pytest.approx(0.02) and figures["auc_gain_inbox"] == pytest.approx(0.02)
    assert figures["auc_gain_lo"] == pytest.approx(0.02 - 12.706 * np.std([0.01, 0.03], ddof=1) / np.sqrt(2), rel=1e-3)


def test_both_sides_of_the_journey_differ_in_their_features_alone(tmp_path: Path) -> None:
    journey = Journey(tmp_path, 5)
    told, plain = journey.config("with", 1), journey.config("without", 1)
    assert {"age", "campaigns", "store", "week"} <= set(told.features) and not plain.features
    same = plain.model_copy(update={"features": told.features, "work_dir": told.work_dir})
    assert same == told and told.work_dir != plain.work_dir and told.training.time_budget_seconds is None
