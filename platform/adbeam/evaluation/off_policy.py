"""Off-policy estimates: what another policy would have earned, from what this one logged, with intervals.

    IPS    mean(w r)              w = pi_e(a | x) / pi_0(a | x)
    SNIPS  sum(w r) / sum(w)      Swaminathan and Joachims 2015
    DR     mean(q_e + w (r - q))  Dudik et al. 2011; q: reward of the action, q_e: its mean under pi_e

Shapes: B logged actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value and its two-sided bootstrap interval."""

    value: float
    low: float
    high: float

    def covers(self, truth: float) -> bool:
        """Whether the interval holds `truth`."""
        return self.low <= truth <= self.high


def weights(target_B: np.ndarray, logged_B: np.ndarray, largest: float | None = None) -> np.ndarray:
    """w [B]; raises ValueError where a logged action had no probability. `largest` cuts weights, at some bias."""
    logged_B = np.asarray(logged_B, dtype=np.float64)
    if not (logged_B > 0).all():
        raise ValueError("a logged action must have had a probability above 0")
    weight_B: np.ndarray = np.asarray(target_B, dtype=np.float64) / logged_B
    return weight_B if largest is None else np.minimum(weight_B, largest)


def ips(reward_B: np.ndarray, weight_B: np.ndarray, level: float = 0.95) -> Estimate:
    """Inverse propensity score."""
    return _bootstrap((weight_B * reward_B)[:, None], lambda mean: mean[..., 0], level)


def snips(reward_B: np.ndarray, weight_B: np.ndarray, level: float = 0.95) -> Estimate:
    """Self-normalised IPS: no more variance from the sum of the weights."""
    both = np.stack([weight_B * reward_B, weight_B], axis=1)
    return _bootstrap(both, lambda mean: mean[..., 0] / np.maximum(mean[..., 1], 1e-12), level)


def doubly_robust(
    reward_B: np.ndarray, weight_B: np.ndarray, predicted_B: np.ndarray, expected_B: np.ndarray, level: float = 0.95
) -> Estimate:
    """DR; `predicted_B` is the model's reward of the logged action, `expected_B` its mean under the other policy."""
    return _bootstrap((expected_B + weight_B * (reward_B - predicted_B))[:, None], lambda mean: mean[..., 0], level)


def _bootstrap(columns_BK: np.ndarray, value: object, level: float, rounds: int = 2000) -> Estimate:
    assert callable(value)
    rng = np.random.default_rng(0)
    drawn = np.stack([
        columns_BK[rng.integers(0, len(columns_BK), size=len(columns_BK))].mean(axis=0) for _ in range(rounds)
    ])  # fmt: skip
    low, high = np.quantile(value(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value(columns_BK.mean(axis=0))), float(low), float(high))
