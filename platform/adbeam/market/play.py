"""Playing the simulated market: what shown ads bring, drawn or expected, under budgets.

Shapes: R requests, n shown ads of one request, N ads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adbeam.market.world import NOTHING, Requests, World
from adbeam.records import HOUR_MS

__all__ = ["NOTHING", "Market", "Outcome", "examination"]


@dataclass(frozen=True)
class Outcome:
    """What became of shown ads, each [R, n]."""

    looked: np.ndarray
    clicked: np.ndarray
    converted: np.ndarray
    paid: np.ndarray
    """Money; 0 where the budget was used up."""
    click_ms: np.ndarray
    """When, milliseconds since 1970; 0 without a click."""
    convert_ms: np.ndarray


def examination(places: int) -> np.ndarray:
    """[n], how likely a place is looked at: 1 / log2(1 + place), from 1."""
    return 1 / np.log2(2 + np.arange(places))


class Market:
    """A world with the money spent so far on the present day."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.day = NOTHING
        self.spent_N = np.zeros(world.config.ads)

    def affordable(self, day: int) -> np.ndarray:
        """bool [N], ads that are live and have budget left."""
        self._turn(day)
        return self.world.live(day) & (self.spent_N < self.world.budget_N)

    def expected_revenue(self, requests: Requests, ad_Rn: np.ndarray) -> np.ndarray:
        """float [R]: money that these lists bring on average; every ad pays out of its budget until it is used up, and
        brings nothing where its rules do not allow the user.

        Expectations in place of draws: a comparison of two recommenders needs fewer requests then.
        """
        self._turn(requests.day)
        shown = ad_Rn >= 0
        ad_Rn = np.where(shown, ad_Rn, 0)
        looked_n = examination(ad_Rn.shape[1])
        money_Rn = looked_n * self.world.ecpm(requests.user_R, ad_Rn, requests.day, requests.scene_R) / 1000
        live = self.world.live(requests.day)[ad_Rn] & self.world.legal(requests.user_R, ad_Rn)
        money_Rn = np.where(shown & live, money_Rn, 0.0)
        money_R: np.ndarray = self._charge(ad_Rn, money_Rn).sum(1)
        return money_R

    def play(self, requests: Requests, ad_Rn: np.ndarray, seed: int = 0) -> Outcome:
        """Draw what happens; the same requests and seed draw the same."""
        self._turn(requests.day)
        rng = np.random.default_rng((self.world.seed, 5, requests.day, seed))
        shown, ads = ad_Rn >= 0, np.where(ad_Rn >= 0, ad_Rn, 0)
        looked = shown & (rng.random(ads.shape) < examination(ads.shape[1]))
        looked &= self.world.live(requests.day)[ads] & self.world.legal(requests.user_R, ads)
        click_Rn = self.world.click_probability(requests.user_R, ads, requests.day, requests.scene_R)
        clicked = looked & (rng.random(ads.shape) < click_Rn)
        converted = clicked & (rng.random(ads.shape) < self.world.conversion_probability(requests.user_R, ads))
        paid = self._charge(ads, np.where(converted, self.world.bid_N[ads], 0.0))
        click_ms = requests.time_R[:, None] + 1000 + rng.integers(60_000, size=ads.shape)
        delay_ms = rng.exponential(max(self.world.config.delay_hours, 1e-6), size=ads.shape) * HOUR_MS
        convert_ms = click_ms + 1000 + delay_ms.astype(np.int64)
        return Outcome(
            looked, clicked, converted, paid, np.where(clicked, click_ms, 0), np.where(converted, convert_ms, 0)
        )

    def _charge(self, ad_Rn: np.ndarray, money_Rn: np.ndarray) -> np.ndarray:
        """The part of `money_Rn` that budgets still hold, taken in the order of the requests."""
        order = np.argsort(ad_Rn.ravel(), kind="stable")
        ad, money = ad_Rn.ravel()[order], money_Rn.ravel()[order]
        total = np.cumsum(money)
        first = np.concatenate([[True], ad[1:] != ad[:-1]]) if len(ad) else np.zeros(0, bool)
        before_first = (total - money)[first][np.cumsum(first) - 1] if len(ad) else total
        before = total - money - before_first + self.spent_N[ad]
        allowed = np.clip(self.world.budget_N[ad] - before, 0, money)
        np.add.at(self.spent_N, ad, allowed)
        taken = np.empty_like(money)
        taken[order] = allowed
        return taken.reshape(money_Rn.shape)

    def _turn(self, day: int) -> None:
        if day != self.day:
            self.day = day
            self.spent_N[:] = 0.0
