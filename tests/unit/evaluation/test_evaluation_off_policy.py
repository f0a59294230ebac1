"""Off-policy estimates: against a policy whose value is known, made up and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adbeam.evaluation.off_policy import doubly_robust, ips, snips, weights

OPEN_BANDIT = Path(__file__).parents[4] / "shared" / "data" / "open_bandit"
ITEMS = {"all": 80, "men": 34, "women": 46}


def test_estimates_cover_the_value_of_another_policy() -> None:
    rng = np.random.default_rng(0)
    rate, logged, target = np.array([0.1, 0.3, 0.6]), np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.2, 0.7])
    action = rng.choice(3, size=8_000, p=logged)
    reward = (rng.random(len(action)) < rate[action]).astype(float)
    weight = weights(target[action], logged[action])
    truth = float((target * rate).sum())
    found = (ips(reward, weight), snips(reward, weight),
             doubly_robust(reward, weight, rate[action], np.full(len(action), truth)))  # fmt: skip
    assert all(estimate.covers(truth) for estimate in found)
    assert not ips(reward, np.ones(len(action))).covers(truth), "the logging policy's own value is another"
    assert found[2].high - found[2].low < found[0].high - found[0].low


def test_an_action_without_a_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        weights(np.ones(2), np.array([0.5, 0.0]))
    assert weights(np.ones(1), np.array([1e-6]), largest=100).tolist() == [100]


@pytest.mark.skipif(not OPEN_BANDIT.is_dir(), reason="the real data is not here")
@pytest.mark.parametrize("campaign", list(ITEMS))
def test_on_real_traffic_they_cover_the_random_policys_value(campaign: str) -> None:
    """Thompson sampling's log tells what the uniform policy earns, which ran beside it on the same traffic."""
    logged = pd.read_csv(OPEN_BANDIT / f"bts_{campaign}.csv.gz")
    truth = pd.read_csv(OPEN_BANDIT / f"random_{campaign}.csv.gz").click
    weight = weights(np.full(len(logged), 1 / ITEMS[campaign]), logged.propensity_score.to_numpy())
    reward = logged.click.to_numpy(dtype=float)
    spread = 1.96 * np.sqrt(truth.mean() * (1 - truth.mean()) / len(truth))
    for estimate in (ips(reward, weight), snips(reward, weight)):
        assert estimate.low <= truth.mean() + spread and estimate.high >= truth.mean() - spread
