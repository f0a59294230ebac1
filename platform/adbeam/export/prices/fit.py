"""Fitting the scale: ad rates from the training split; how log p moves them, from impressions it has not seen.

Shapes: N ads, X held-out impressions, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adbeam.export.prices.counts import AdCounts, smoothed
from adbeam.export.prices.curve import LEVEL_EVENTS, correction, level_of
from adbeam.export.prices.held_out import Impressions
from adbeam.pricing.scale import PER_MILLE, AdPrices, MoneyScale, prices_of

NEWTON_STEPS = 50
SLOPE_EVENTS = 10.0
"""How many events speak for the prior of a slope, of a feature of unit spread."""
SHARE_PRIOR = 0.5
"""Targets that every semantic ID has beside its own, in its share of all."""
ENDS = (0.01, 0.995)


@dataclass(frozen=True)
class AdTable:
    """What training says of each ad [N], sorted by id."""

    item_N: np.ndarray
    log_rates: list[np.ndarray]
    """[N] for each step from an impression to a target."""
    overall: list[float]
    """Log rate of all ads, by step."""
    log_share_N: np.ndarray
    log_share_new: float
    own_N: np.ndarray
    mean_N: np.ndarray
    number_is_ecpm: bool = False

    def rows(self, item_X: np.ndarray) -> np.ndarray:
        """int64, the place of each item; N for one that training never showed."""
        place = np.searchsorted(self.item_N, item_X)
        known = (place < len(self.item_N)) & (self.item_N[np.minimum(place, len(self.item_N) - 1)] == item_X)
        return np.where(known, place, len(self.item_N))


def ad_table(
    counts: AdCounts, target_counts: Mapping[str, int], group_of: Mapping[str, Any], target: str, *,
    number_is_ecpm: bool = False,
) -> AdTable:  # fmt: skip
    """`target_counts` are the training targets by ad, shown or not, which the model learnt from; `group_of` the
    semantic ID of each ad: ads that share one share its share."""
    by_ad = counts.by("item_id")
    items = sorted(by_ad)
    columns = {name: np.array([by_ad[item][name] for item in items]) for name in next(iter(by_ad.values()))}
    steps = [("impressions", "targets")]
    if target != "click" and columns["clicks"].sum() >= columns["targets"].sum():
        steps = [("impressions", "clicks"), ("clicks", "targets")]
    rates = [smoothed(columns[after], columns[before]) for before, after in steps]
    by_group: dict[Any, float] = {}
    for item, group in group_of.items():
        by_group[group] = by_group.get(group, 0.0) + target_counts.get(item, 0)
    total = sum(by_group.values()) + SHARE_PRIOR * max(len(by_group), 1)
    shares = [(by_group.get(group_of.get(item), 0.0) + SHARE_PRIOR) / total for item in items]
    own_N, mean_N = own_values(columns["paid"], columns["money"], columns["squares"])
    if number_is_ecpm:  # the model says nothing of the money of a target: an ad without one is worth what others are
        every = float(columns["money"].sum()) / max(float(columns["paid"].sum()), 1.0)
        own_N, mean_N = np.ones(len(items)), own_N * mean_N + (1 - own_N) * every
    # Targets without money are worth 0, not unknown.
    paid_share = columns["valued"].sum() / max(columns["targets"].sum(), 1.0)
    return AdTable(
        np.array(items, dtype=object), [np.log(np.maximum(rate_N, 1e-12)) for rate_N, _ in rates],
        [float(np.log(max(rate, 1e-12))) for _, rate in rates],
        np.log(shares), float(np.log(SHARE_PRIOR / total)), own_N, mean_N * paid_share, number_is_ecpm,
    )  # fmt: skip


def own_values(paid_N: np.ndarray, money_N: np.ndarray, squares_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weight of an ad's own mean against the model's [N], that mean [N]): spread between ads against that within."""
    mean_N = money_N / np.maximum(paid_N, 1.0)
    total = float(paid_N.sum())
    if total <= 0:
        return np.zeros(len(paid_N)), mean_N
    within = float(np.maximum(squares_N - paid_N * mean_N**2, 0.0).sum()) / max(total - np.count_nonzero(paid_N), 1.0)
    every = float(money_N.sum()) / total
    between = max(
        float((paid_N * (mean_N - every) ** 2).sum()) / total - within * np.count_nonzero(paid_N) / total, 0.0
    )
    prior = within / between if between > 0 else 1e6
    return paid_N / (paid_N + max(prior, 1e-9)), mean_N


def fit_scale(table: AdTable, shown: Impressions) -> tuple[AdPrices, dict[str, Any]]:
    """The prices, and what was found: impressions, the log's money of a thousand and the priced one, by decile."""
    shown = shown.where(np.isfinite(shown.log_probability_X))
    row_X = table.rows(shown.item_X)
    share_X = np.append(table.log_share_N, table.log_share_new)[row_X]
    low, high = np.quantile(shown.log_probability_X, ENDS) if len(shown) else (-1.0, -1.0)
    log_p_X = np.clip(shown.log_probability_X, low, high)
    befores, afters = [shown.weight_X], [shown.targets_X]
    if len(table.log_rates) == 2:
        befores, afters = [shown.weight_X, shown.clicks_X], [shown.clicks_X, shown.targets_X]
    base_N, base, slope = np.zeros(len(table.item_N)), 0.0, 0.0
    for step, (before_X, after_X) in enumerate(zip(befores, afters, strict=True)):
        rate_X = np.append(table.log_rates[step], table.overall[step])[row_X]
        theta = poisson(np.stack([rate_X, log_p_X, share_X], 1), np.array([1.0, 0.0, 0.0]), before_X, after_X)
        base_N += theta[0] + theta[1] * table.log_rates[step] + theta[3] * table.log_share_N
        base += theta[0] + theta[1] * table.overall[step] + theta[3] * table.log_share_new
        slope += float(theta[2])
    plain_N = PER_MILLE * np.exp(sum(table.log_rates)) * table.mean_N
    flat = MoneyScale(slope, float(low), float(high), float(base), ((), ()), {}, number_is_ecpm=table.number_is_ecpm)
    columns = {"base": base_N, "own": table.own_N, "mean": table.mean_N, "plain": plain_N}
    unbent = prices_of(flat, table.item_N.tolist(), **columns)
    money_X, worth_X = _predicted(unbent, shown), _worth(table, row_X, shown.value_X)
    expected_X = shown.weight_X * money_X / np.maximum(PER_MILLE * worth_X, 1e-12)  # targets
    (at, by), scenes = correction(money_X, expected_X, shown.targets_X, shown.scene_X)
    level = level_of(shown.money_X / np.maximum(worth_X, 1e-12), shown.targets_X)  # of what a target brings
    scale = replace(flat, curve=(at, tuple(each + level for each in by)), scenes=scenes)
    prices = prices_of(scale, table.item_N.tolist(), **columns)
    return prices, _account(shown, _predicted(prices, shown))


def _predicted(prices: AdPrices, shown: Impressions) -> np.ndarray:
    place_X, factor_X = prices.places(shown.item_X), prices.scale.factors(shown.scene_X)
    return prices.prices(place_X, factor_X, shown.log_probability_X, shown.value_X)


def _worth(table: AdTable, row_X: np.ndarray, value_X: np.ndarray) -> np.ndarray:
    """What a target of each impression is expected to bring."""
    own_X, mean_X = np.append(table.own_N, 0.0)[row_X], np.append(table.mean_N, 0.0)[row_X]
    worth_X: np.ndarray = own_X * mean_X + (1 - own_X) * value_X
    return worth_X


def _account(shown: Impressions, priced_X: np.ndarray) -> dict[str, Any]:
    """What to tell: money of a thousand impressions as it came and as it is priced, in all and by decile of price."""
    weight = max(float(shown.weight_X.sum()), 1e-12)
    order = np.argsort(priced_X, kind="stable")
    share_X = np.cumsum(shown.weight_X[order]) / weight
    decile_X = np.minimum((share_X * 10 - 1e-9).astype(int), 9)
    rows = []
    for number in range(10):
        chosen = order[decile_X == number]
        held = max(float(shown.weight_X[chosen].sum()), 1e-12)
        rows.append(
            {
                "priced": float((shown.weight_X * priced_X)[chosen].sum()) / held,
                "came": PER_MILLE * float(shown.money_X[chosen].sum()) / held,
                "targets": float(shown.targets_X[chosen].sum()),
            }
        )
    return {
        "impressions": len(shown),
        "targets": float(shown.targets_X.sum()),
        "came": PER_MILLE * float(shown.money_X.sum()) / weight,
        "priced": float((shown.weight_X * priced_X).sum()) / weight,
        "deciles": rows,
    }


def poisson(x_XF: np.ndarray, prior_F: np.ndarray, before_X: np.ndarray, after_X: np.ndarray) -> np.ndarray:
    """float64 [1 + F], level and slopes of log(after / before), drawn to (0, prior_F): ridge on features of unit
    spread, by Newton's method."""
    start = np.concatenate([[0.0], prior_F])
    total = float(before_X.sum())
    if total <= 0:
        return start
    mean_F = (before_X @ x_XF) / total
    spread_F = np.sqrt(np.maximum(before_X @ (x_XF - mean_F) ** 2 / total, 1e-12))
    design = np.concatenate([np.ones((len(x_XF), 1)), (x_XF - mean_F) / spread_F], 1)
    offset_X = x_XF @ prior_F
    ridge = np.diag([LEVEL_EVENTS, *np.where(spread_F > 1e-5, SLOPE_EVENTS, 1e6)])
    theta = np.zeros(len(start))
    for _ in range(NEWTON_STEPS):
        expected_X = before_X * np.exp(np.clip(offset_X + design @ theta, -50, 20))
        gradient = design.T @ (expected_X - after_X) + ridge @ theta
        step = np.linalg.solve((design * expected_X[:, None]).T @ design + ridge, gradient)
        theta = theta - step * min(1.0, 1.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    slopes = theta[1:] / spread_F
    return np.concatenate([[theta[0] - float(mean_F @ slopes)], slopes + prior_F])
