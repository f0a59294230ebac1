"""The scale: from log p of a semantic ID and the money of a target to the expected money of a thousand impressions.

By Bayes an ad that is p / q times likelier among a user's targets (p: the model's) than among all targets (q: its share
of them) is that many times likelier to become one when it is shown to that user than to anybody. Models are not so
exact, so how far log p and log q move the rate is fitted:

    rate_iu  = exp(base_i + slope x log p_iu)          base_i: of the ad's own smoothed rate, log q and intercepts
    value_iu = own_i x mean_i + (1 - own_i) x E[value | target]_iu
    money    = 1000 x rate_iu x value_iu x scene factor x curve(log of all that)

`AdPrices` holds base, own and mean by ad, and prices the ads of all answers of a batch at once.

Shapes: N ads, M = N + 1 with the one that was never shown, X ads to be priced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import pyarrow as pa

from adbeam.records import MOST_MONEY

PER_MILLE = 1000.0
LOG_MOST, TINY = 50.0, 1e-300
LIVE_FACTOR_MAX = 10.0
"""A live eCPM moves a price by at most this much against the catalogue's: one in micros is no ten million."""
RATE_COLUMNS = ("item_id", "base", "own", "mean", "plain")


@dataclass(frozen=True)
class MoneyScale:
    """What is the same for all ads."""

    slope: float
    """How far log p moves the log of the rate."""
    log_p_low: float
    log_p_high: float
    """log p beyond what was seen counts as what was seen."""
    base: float
    """Of an ad that was never shown."""
    curve: tuple[tuple[float, ...], tuple[float, ...]]
    """(log money, log of what to multiply it by), rising; straight between the points, level beyond them."""
    scenes: Mapping[str, float]
    """Factor by scene; 1 for another one."""
    anybody: float = 1.0
    """Factor of prices to anybody, those of fallback answers."""
    number_is_ecpm: bool = False
    """The model's number is CPM already (`logs.value: ecpm`): what an ad is worth that the log never showed."""

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `as_dict` gave."""
        at, by = stored["curve"]
        return cls(**{**stored, "curve": (tuple(at), tuple(by))})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        stored = {part.name: getattr(self, part.name) for part in fields(self)}
        return {**stored, "curve": [list(part) for part in self.curve], "scenes": dict(self.scenes)}

    def bent(self, log_money_X: np.ndarray) -> np.ndarray:
        """float64 [X], the logs of money moved along the curve."""
        at, by = self.curve
        if not at:
            return log_money_X
        moved_X: np.ndarray = log_money_X + np.interp(log_money_X, at, by)
        return moved_X

    def factors(self, scenes: Iterable[str]) -> np.ndarray:
        """float64 [X], the factor of each scene."""
        return np.array([self.scenes.get(scene, 1.0) for scene in scenes])


class AdPrices:
    """A scale and what it needs of each ad, by id."""

    def __init__(self, scale: MoneyScale, rates: pa.Table) -> None:
        """`rates` has RATE_COLUMNS: `base` of the log rate, `own` weight of the ad's own `mean` value of a target, and
        `plain`, the money of a thousand impressions to anybody."""
        self.scale, self.rates = scale, rates
        self.place_of = {item_id: place for place, item_id in enumerate(rates["item_id"].to_pylist())}
        """Row of an ad in `rates`."""
        base_N, own_N, mean_N, self._plain_N = (rates[name].to_numpy() for name in RATE_COLUMNS[1:])
        # An ad that the log never showed stands behind all others.
        self._base_M, self._mine_M = np.append(base_N, scale.base), np.append(own_N * mean_N, 0.0)
        self._others_M = np.append(1.0 - own_N, 1.0)

    def knows(self, item_id: str) -> bool:
        """Whether the log showed the ad."""
        return item_id in self.place_of

    def places(self, item_ids: Iterable[str]) -> np.ndarray:
        """int64 [X], the rows of ads in `rates`; its length for an ad that the log never showed."""
        return np.array([self.place_of.get(item_id, len(self._plain_N)) for item_id in item_ids], np.int64)

    def unknown(self, place_X: np.ndarray) -> np.ndarray:
        """bool [X], which of the ads the log never showed."""
        unknown_X: np.ndarray = place_X == len(self._plain_N)
        return unknown_X

    def prices(
        self, place_X: np.ndarray, factor_X: np.ndarray, log_probability_X: np.ndarray, value_X: np.ndarray
    ) -> np.ndarray:
        """float64 [X], expected money of a thousand impressions of ads (`places`) in scenes (`MoneyScale.factors`) to
        the users of whom the model said `log_probability` and `value`, the money of a target."""
        scale = self.scale
        worth_X = self._mine_M[place_X] + self._others_M[place_X] * value_X
        seen_X = np.minimum(np.maximum(log_probability_X, scale.log_p_low), scale.log_p_high)
        log_X = self._base_M[place_X] + scale.slope * seen_X + np.log(np.maximum(PER_MILLE * worth_X, TINY))
        money_X = np.exp(np.minimum(scale.bent(log_X), LOG_MOST)) * factor_X
        money_X = np.where(worth_X > 0.0, np.minimum(money_X, MOST_MONEY), 0.0)
        if scale.number_is_ecpm:
            money_X = np.where(self.unknown(place_X), value_X * factor_X, money_X)
        return money_X

    def price(self, item_id: str, scene: str, log_probability: float, value: float) -> float:
        """The price of one ad."""
        one = self.places([item_id]), self.scale.factors([scene]), np.array([log_probability]), np.array([value])
        return float(self.prices(*one)[0])

    def plain(self, item_id: str) -> float | None:
        """Expected money of a thousand impressions of the ad to anybody, before the scene's factor; None for an ad that
        the log never showed."""
        place = self.place_of.get(item_id)
        return None if place is None else float(self._plain_N[place]) * self.scale.anybody


def live_factor(live: float | None, catalogue: float | None) -> float:
    """What a live eCPM makes of a price: its ratio to the catalogue's, at most LIVE_FACTOR_MAX either way; 1 where
    either is unknown, 0 where the live one is 0."""
    if live is None or not catalogue or live == catalogue:
        return 1.0
    return 0.0 if live == 0 else min(max(live / catalogue, 1 / LIVE_FACTOR_MAX), LIVE_FACTOR_MAX)


def prices_of(scale: MoneyScale, item_ids: Sequence[str], **columns: np.ndarray) -> AdPrices:
    """From arrays by ad."""
    return AdPrices(scale, pa.table({"item_id": pa.array(list(item_ids), pa.string()), **columns}))
