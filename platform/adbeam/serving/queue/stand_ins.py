"""What a request gets that is not decoded: an earlier answer of its user, or popular ads; under the rules of now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adbeam.catalogue.owners import Owner
from adbeam.list_rules.caps import NOTHING_WORN, Worn
from adbeam.list_rules.listing import Listing, kinds_of
from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Decoded, Query
from adbeam.serving.queue.cache import ResultCache
from adbeam.serving.queue.seen_enough import SeenEnough

Ad = dict[str, Any]


class StandIns:
    """Earlier answers and popular ads. Used from the event loop only."""

    def __init__(self, config: ServingConfig, cache: ResultCache, metrics: Recorder) -> None:
        self._most, self._has_caps = config.list_rules.most, bool(config.frequency_caps)
        self._cache, self._metrics, self._repeats = cache, metrics, config.cache.answer_repeats
        self.seen = SeenEnough(self._has_caps, metrics, config.withheld)
        """What users have seen enough of."""

    async def repeated(self, query: Query, model: LoadedModel, until_s: float) -> Decoded | None:
        """The kept answer, where one is sent even though there is time."""
        if not self._repeats or not query.cacheable or self._cache.get(query.cache_key(model.version)) is None:
            return None
        return self.cached(query, model, await self.seen.worn(query, model, until_s))

    def cached(self, query: Query, model: LoadedModel, worn: Worn = NOTHING_WORN) -> Decoded | None:
        """The kept answer to the same request, of the ads that may still be shown; None where there is none."""
        if not query.cacheable:
            return None
        found: Decoded | None = self._cache.get(query.cache_key(model.version))
        if found is None:
            return None
        query = query.knowing(found.answer.profile)
        ads = model.still_shown(found.answer, query.told)
        ads = [ad for ad in ads if worn.refuses(ad["item_id"], Owner.of(ad)) is None] if worn else ads
        if not ads:
            return None
        self._metrics.add("adbeam_cache_hits")
        if len(ads) < len(found.answer.ads) and self._is_ruled(query):
            ads = self._filled(query, model, worn, ads, found.answer.categories)
        return replace(found, answer=replace(found.answer, ads=ads))

    def popular(self, query: Query, model: LoadedModel, worn: Worn = NOTHING_WORN) -> list[Ad]:
        """Popular ads for a request that is not decoded."""
        if not self._is_ruled(query):
            return model.popular(query.blocked, query.count, query.scene, query.told)
        return self._filled(query, model, worn, [], {})

    def _is_ruled(self, query: Query) -> bool:
        return bool(self._most or self._has_caps or query.allowed or query.floor_ecpm or query.spent or query.demands)

    def _filled(
        self, query: Query, model: LoadedModel, worn: Worn, ads: Sequence[Ad], categories: Mapping[str, str | None]
    ) -> list[Ad]:
        """Ads that stay, and popular ones behind them, as many as are wanted and pass."""
        listing = Listing(self._most, query.count)
        filled = [ad for ad in ads if listing.takes(kinds_of(ad, categories.get(ad["item_id"]), self._most))]
        has = {ad["item_id"] for ad in ads}
        for ad, category in model.popular_ads.left(
            query.blocked, query.scene, query.told, query.allowed, query.demands
        ):
            if not listing.left:
                break
            if ad["item_id"] in has or (query.floor_ecpm > 0 and (ad["expected_ecpm"] or 0.0) < query.floor_ecpm):
                continue
            if worn.refuses(ad["item_id"], Owner.of(ad)) is None and listing.takes(kinds_of(ad, category, self._most)):
                filled.append({**ad, "score": 0.0} if ads else ad)
        return filled
