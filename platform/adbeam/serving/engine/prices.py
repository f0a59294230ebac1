"""What an ad of an answer is worth: the expected money of a thousand impressions, from whatever is known of it.

| bundle | `expected_ecpm` |
| --- | --- |
| of a log with impressions | the fitted price, moved by the ad's live eCPM; a new ad's live eCPM |
| of a log whose money is eCPM | the model's number |
| of a log without money | the ad's live eCPM |
| of another log | the model's number x engine.ecpm_scale; without that it is money of a target, and nothing is bid |
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from adbeam.bundle import Bundle
from adbeam.catalogue.ads import AdCatalogue
from adbeam.inference.recommender import FoundAd
from adbeam.pricing.scale import AdPrices, live_factor

MoneyUnit = Literal["impressions", "log_ecpm", "live_ecpm", "operator", "target"]
"""Where the money of a thousand impressions comes from; `target`: it is not known, numbers are money of a target."""


class AnswerPrices:
    """Prices the ads that a bundle's search finds."""

    def __init__(self, bundle: Bundle, catalogue: AdCatalogue, ecpm_scale: float | None) -> None:
        """`ecpm_scale` counts where neither the bundle's log nor its catalogue says what impressions bring."""
        self._catalogue = catalogue
        money = bundle.money
        self._prices: AdPrices | None = None if money is None else money.prices
        self._place_R = np.zeros(0, np.int64) if self._prices is None else self._prices.places(catalogue.item_ids)
        self._factor = 1.0
        self.unit: MoneyUnit
        if not bundle.settings.priced:
            self.unit = "live_ecpm"
        elif money is not None:
            self.unit = money.source
        elif ecpm_scale is not None:
            self.unit, self._factor = "operator", ecpm_scale
        else:
            self.unit = "target"

    def price(self, answers: Sequence[Sequence[FoundAd]], scenes: Sequence[str]) -> list[list[float]]:
        """Money of a thousand impressions, in `unit`, of the found ads of a batch's answers, each in its scene."""
        if self._prices is None:
            return [[self._unfitted(ad) for ad in found] for found in answers]
        found, sizes = list(itertools.chain.from_iterable(answers)), [len(ads) for ads in answers]
        if not found:
            return [[] for _ in answers]
        priced = iter(self._fitted(self._prices, found, self._prices.scale.factors(scenes).repeat(sizes)))
        return [list(itertools.islice(priced, size)) for size in sizes]

    def _fitted(self, prices: AdPrices, found: Sequence[FoundAd], factor_X: np.ndarray) -> list[float]:
        """`found` are one ad or more."""
        rows, log_p, value = zip(*found, strict=True)
        items = [*map(self._catalogue.item_ids.__getitem__, rows)]
        place_X = self._places(prices, rows, items)
        priced: list[float] = prices.prices(place_X, factor_X, np.array(log_p), np.array(value)).tolist()
        live, stored = self._catalogue.index.ecpms(items), self._catalogue.stored_ecpms(rows)
        if live != stored:
            for place, (now, then) in enumerate(zip(live, stored, strict=True)):
                priced[place] *= live_factor(now, then)
        for place in prices.unknown(place_X).nonzero()[0].tolist():
            now = live[place]
            if now is not None:  # nothing was fitted for it
                priced[place] = now
        return priced

    def _places(self, prices: AdPrices, rows: Sequence[int], items: Sequence[str]) -> np.ndarray:
        """Rows of ads in the fitted rates; an ad that came after the bundle is looked up."""
        if max(rows) >= len(self._place_R):
            return prices.places(items)
        place_X: np.ndarray = self._place_R[np.array(rows)]
        return place_X

    def _unfitted(self, found: FoundAd) -> float:
        return self._live(found.row) or 0.0 if self.unit == "live_ecpm" else self._factor * found.expected_ecpm

    def fallback(self, rows: Sequence[int]) -> FallbackPrices | None:
        """What prices the ads of these rows where no search found them; None where they go by live eCPM alone."""
        if self._prices is None:
            return None
        known = [(self._catalogue.item_ids[row], row) for row in rows]
        plain = {item: price for item, _ in known if (price := self._prices.plain(item)) is not None}
        stored = dict(zip([item for item, _ in known], self._catalogue.stored_ecpms(rows), strict=True))
        return FallbackPrices(plain, stored, dict(self._prices.scale.scenes))

    def plain(self, row: int, scene: str) -> float | None:
        """What an ad that no search found is worth to anybody, as `fallback` has it."""
        live, item_id = self._live(row), self._catalogue.item_ids[row]
        plain = None if self._prices is None else self._prices.plain(item_id)
        if self._prices is None or plain is None:
            return live
        return (
            plain
            * self._prices.scale.scenes.get(scene, 1.0)
            * live_factor(live, self._catalogue.stored_ecpms([row])[0])
        )

    def _live(self, row: int) -> float | None:
        return self._catalogue.index.ecpm(self._catalogue.item_ids[row])


@dataclass(frozen=True)
class FallbackPrices:
    """Prices of ads to anybody, by id, beside the eCPM that the catalogue held for them."""

    plain: Mapping[str, float] = field(default_factory=dict)
    stored: Mapping[str, float | None] = field(default_factory=dict)
    scenes: Mapping[str, float] = field(default_factory=dict)

    def price(self, item_id: str, live: float | None, scene: str) -> float | None:
        """Money of a thousand impressions; the live eCPM of an ad that the log never showed."""
        plain = self.plain.get(item_id)
        if plain is None:
            return live
        return plain * self.scenes.get(scene, 1.0) * live_factor(live, self.stored[item_id])
