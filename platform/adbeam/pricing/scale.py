"""The scale: from log p of a semantic ID and the money of a target to the expected money of a thousand impressions.

By Bayes an ad that is p / q times likelier among a user's targets (p: the model's) than among all targets (q: its share
of them) is that many times likelier to become one when it is shown to that user than to anybody. Models are not so
exact, so how far log p and log q move the rate is fitted:

    rate_iu  = exp(base_i + slope x log p_iu)          base_i: of the ad's own smoothed rate, log q and intercepts
    value_iu = own_i x mean_i + (1 - own_i) x E[value | target]_iu
    money    = 1000 x rate_iu x value_iu x scene factor x curve(log of all that)

`AdPrices` holds base, own and mean by row of a catalogue. Plain Python per ad: an answer has ten.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from adbeam.records import MOST_MONEY

PER_MILLE = 1000.0
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
        return {**vars(self), "curve": [list(part) for part in self.curve], "scenes": dict(self.scenes)}

    def bent(self, log_money: float) -> float:
        """The log of the money, moved along the curve."""
        at, by = self.curve
        if not at:
            return log_money
        place = bisect.bisect_right(at, log_money)
        if place == 0:
            return log_money + by[0]
        if place == len(at):
            return log_money + by[-1]
        share = (log_money - at[place - 1]) / (at[place] - at[place - 1])
        return log_money + by[place - 1] + share * (by[place] - by[place - 1])


class AdPrices:
    """A scale and what it needs of each ad, by id."""

    def __init__(self, scale: MoneyScale, rates: pa.Table) -> None:
        """`rates` has RATE_COLUMNS: `base` of the log rate, `own` weight of the ad's own `mean` value of a target, and
        `plain`, the money of a thousand impressions to anybody."""
        self.scale, self.rates = scale, rates
        columns = [rates[name].to_pylist() for name in RATE_COLUMNS]
        self._of = {item: (base, own, mean, plain) for item, base, own, mean, plain in zip(*columns, strict=True)}

    def knows(self, item_id: str) -> bool:
        """Whether the log showed the ad."""
        return item_id in self._of

    def price(self, item_id: str, scene: str, log_probability: float, value: float) -> float:
        """Expected money of a thousand impressions of the ad to the user of whom the model said `log_probability` and
        `value`, the money of a target."""
        scale, known = self.scale, self._of.get(item_id)
        if known is None and scale.number_is_ecpm:
            return value * scale.scenes.get(scene, 1.0)
        base, own, mean, _ = known or (scale.base, 0.0, 0.0, 0.0)
        worth = own * mean + (1.0 - own) * value
        if worth <= 0.0:
            return 0.0
        seen = min(max(log_probability, scale.log_p_low), scale.log_p_high)
        log_money = scale.bent(base + scale.slope * seen + math.log(PER_MILLE * worth))
        return min(math.exp(min(log_money, 50.0)) * scale.scenes.get(scene, 1.0), MOST_MONEY)

    def plain(self, item_id: str) -> float | None:
        """Expected money of a thousand impressions of the ad to anybody, before the scene's factor; None for an ad that
        the log never showed."""
        found = self._of.get(item_id)
        return None if found is None else found[3] * self.scale.anybody


def live_factor(live: float | None, catalogue: float | None) -> float:
    """What a live eCPM makes of a price: its ratio to the catalogue's, at most LIVE_FACTOR_MAX either way; 1 where
    either is unknown, 0 where the live one is 0."""
    if live is None or not catalogue or live == catalogue:
        return 1.0
    return 0.0 if live == 0 else min(max(live / catalogue, 1 / LIVE_FACTOR_MAX), LIVE_FACTOR_MAX)


def prices_of(scale: MoneyScale, item_ids: Sequence[str], **columns: np.ndarray) -> AdPrices:
    """From arrays by ad."""
    return AdPrices(scale, pa.table({"item_id": pa.array(list(item_ids), pa.string()), **columns}))
