"""What an ad of an answer is worth: the expected money of a thousand impressions, from whatever is known of it.

| bundle | `expected_ecpm` |
| --- | --- |
| of a log with impressions | the fitted price, moved by the ad's live eCPM; a new ad's live eCPM |
| of a log whose money is eCPM | the model's number |
| of a log without money | the ad's live eCPM |
| of another log | the model's number x engine.ecpm_scale; without that it is money of a target, and nothing is bid |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

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

    def price(self, found: FoundAd, scene: str) -> float:
        """Money of a thousand impressions of a found ad, in `unit`."""
        if self._prices is None:
            return self._live(found.row) or 0.0 if self.unit == "live_ecpm" else self._factor * found.expected_ecpm
        item_id = self._catalogue.item_ids[found.row]
        live = self._catalogue.index.ecpm(item_id)
        if live is not None and not self._prices.knows(item_id):
            return live
        price = self._prices.price(item_id, scene, found.log_probability, found.expected_ecpm)
        return price * live_factor(live, self._catalogue.stored_ecpm(found.row))

    def fallback(self, rows: Sequence[int]) -> FallbackPrices | None:
        """What prices the ads of these rows where no search found them; None where they go by live eCPM alone."""
        if self._prices is None:
            return None
        known = [(self._catalogue.item_ids[row], row) for row in rows]
        plain = {item: price for item, _ in known if (price := self._prices.plain(item)) is not None}
        stored = {item: self._catalogue.stored_ecpm(row) for item, row in known if item in plain}
        return FallbackPrices(plain, stored, dict(self._prices.scale.scenes))

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
