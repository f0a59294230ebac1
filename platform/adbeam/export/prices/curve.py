"""The curve over prices and the factors of scenes: they bring the targets expected at each price to those that came.

Shapes: X impressions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adbeam.pricing.scale import MoneyScale

LEVEL_EVENTS = 5.0
"""How many events speak for a level that is there already."""
BIN_EVENTS, SCENE_EVENTS = 30.0, 50.0
"""How many events speak for a bin of the curve and for a scene being like all others."""
BINS = 12


def level_of(came_X: np.ndarray, expected_X: np.ndarray) -> float:
    """Log of what came over what was expected; LEVEL_EVENTS speak for 0."""
    return float(np.log((came_X.sum() + LEVEL_EVENTS) / (expected_X.sum() + LEVEL_EVENTS)))


def correction(
    money_X: np.ndarray, expected_X: np.ndarray, came_X: np.ndarray, scene_X: np.ndarray
) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], dict[str, float]]:
    """(curve, factor by scene) that bring the targets expected at each price to those that came: first the level of
    all, then what bins and scenes are beside it."""
    level = level_of(came_X, expected_X)
    at, by = fit_curve(money_X, expected_X * np.exp(level), came_X)
    by = tuple(level + each for each in by)
    bent = MoneyScale(0.0, 0.0, 0.0, 0.0, (at, by), {})
    log_X = np.log(np.maximum(money_X, 1e-12))
    moved_X = expected_X * np.exp(bent.bent(log_X) - log_X)
    factors = {}
    for scene in sorted(set(scene_X.tolist())):
        chosen = scene_X == scene
        came, expected = float(came_X[chosen].sum()), float(moved_X[chosen].sum())
        factors[scene] = (came + SCENE_EVENTS) / (expected + SCENE_EVENTS)
    return (at, by), factors


def fit_curve(
    money_X: np.ndarray, expected_X: np.ndarray, targets_X: np.ndarray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(log of the money in the middle of each bin, log of targets that came over those expected there).

    Bins hold equal parts of targets and impressions, so that the cheapest are not one bin; BIN_EVENTS speak for 1.
    Dearer never becomes cheaper (isotonic regression): bins that would are worth the same, each moved to that.
    """
    order = np.argsort(money_X, kind="stable")
    order = order[(money_X[order] > 0) & (expected_X[order] > 0)]
    total = float(expected_X[order].sum())
    if total <= 0:
        return (), ()
    share_X = (np.cumsum(expected_X[order]) / total + np.arange(1, len(order) + 1) / len(order)) / 2
    bin_X = np.minimum((share_X * BINS - 1e-9).astype(int), BINS - 1)
    at, pools = [], list[_Pool]()
    for number in np.unique(bin_X):
        chosen = order[bin_X == number]
        expected = float(expected_X[chosen].sum())
        at.append(float(expected_X[chosen] @ np.log(money_X[chosen])) / expected)
        pools.append(_Pool(at[-1] * expected, expected, float(targets_X[chosen].sum()), 1))
        while len(pools) > 1 and pools[-2].moved >= pools[-1].moved:
            last = pools.pop()
            pools[-1] = _Pool(*(one + other for one, other in zip(pools[-1], last, strict=True)))
    moved = [pool.moved for pool in pools for _ in range(pool.bins)]
    return tuple(at), tuple(to - where for to, where in zip(moved, at, strict=True))


class _Pool(NamedTuple):
    """Neighbouring bins that are worth the same."""

    weighted_log: float
    expected: float
    came: float
    bins: int

    @property
    def moved(self) -> float:
        """Log of what they are worth."""
        return self.weighted_log / self.expected + float(
            np.log((self.came + BIN_EVENTS) / (self.expected + BIN_EVENTS))
        )
