"""Organic items of a simulated market: what users look at outside of ads, by the taste they have on that day.

Shapes: M items, K interests, E events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adbeam.market.truth.vectors import unit

MINUTES_BEFORE = 20.0
"""Mean time from an organic event to the request that it comes before."""
_PART = 4096
"""Events for which all items are weighed at once: bounds the memory."""


@dataclass(frozen=True)
class OrganicEvents:
    """Events of one day; `place_E` are the requests that they come before."""

    place_E: np.ndarray
    item_E: np.ndarray
    time_E: np.ndarray
    """int64, milliseconds since 1970, UTC."""


class Organic:
    """Items in the space of the ads' interests, each in a category."""

    def __init__(self, items: int, centre_CK: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng((seed, 14))
        self.category_M = rng.integers(len(centre_CK), size=items)
        self.interest_MK = unit(centre_CK[self.category_M] + 0.5 * unit(rng.normal(size=(items, centre_CK.shape[1]))))

    def draw(
        self, rng: np.random.Generator, taste_RK: np.ndarray, time_R: np.ndarray, scale: float, mean: float
    ) -> OrganicEvents:
        """Events before requests of these tastes and times: `mean` a request, items by softmax(scale <taste, item>)."""
        place_E = np.repeat(np.arange(len(time_R)), rng.poisson(mean, size=len(time_R)))
        item_E = np.zeros(len(place_E), dtype=np.int64)
        for start in range(0, len(place_E), _PART):
            logit_EM = scale * taste_RK[place_E[start : start + _PART]] @ self.interest_MK.T
            item_E[start : start + _PART] = np.argmax(logit_EM + rng.gumbel(size=logit_EM.shape), axis=1)
        before_ms = 1000 + rng.exponential(60_000 * MINUTES_BEFORE, size=len(place_E)).astype(np.int64)
        return OrganicEvents(place_E, item_E, time_R[place_E] - before_ms)
