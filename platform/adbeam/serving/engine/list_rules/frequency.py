"""Frequency caps on the way through a search: what a user has seen enough of becomes rows that it leaves out."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np

from adbeam.catalogue.ads import AdCatalogue
from adbeam.decoding import ItemFilter
from adbeam.list_rules.caps import NOTHING_WORN, Worn, worn_by
from adbeam.list_rules.config import FrequencyCap
from adbeam.recorder import Recorder
from adbeam.serving.engine.request import Query
from adbeam.serving.stores.store import UserHistory


class FrequencyCaps:
    """The caps of one model's users."""

    def __init__(self, catalogue: AdCatalogue, caps: Sequence[FrequencyCap], metrics: Recorder) -> None:
        self._catalogue, self._caps, self._metrics = catalogue, caps, metrics

    def worn(self, query: Query, history: UserHistory) -> Worn:
        """What the user of a query has seen enough of, by the history that it is answered with."""
        if query.is_free:
            return NOTHING_WORN
        worn = worn_by(history, self._caps, query.now_ms, self._catalogue.owner) if self._caps else NOTHING_WORN
        return replace(worn, spent=query.spent) if query.spent else worn

    def without(self, item_filter: ItemFilter | None, worn: Worn) -> ItemFilter | None:
        """The filter of a query, closed for what is worn."""
        if not worn:
            return item_filter
        parts = {
            "ad": self._catalogue.known_rows(worn.ads),
            "campaign": self._catalogue.rows_of((), worn.campaigns),
            "advertiser": self._catalogue.rows_of(worn.advertisers, ()),
        }
        for name, rows in parts.items():
            self._metrics.add("adbeam_ads_left_out", len(rows), rule=f"frequency_cap_{name}")
        parts["spent"] = self._catalogue.rows_of((), worn.spent)
        self._metrics.add("adbeam_ads_left_out", len(parts["spent"]), rule="budget")
        found = item_filter or ItemFilter()
        return replace(found, deny=np.concatenate([np.asarray(found.deny, np.int64), *parts.values()]))


class Hidden(Container[str]):
    """Ads that share a semantic ID with others and are left out of it."""

    def __init__(self, item_ids: frozenset[str], worn: Worn, catalogue: AdCatalogue) -> None:
        self._item_ids, self._worn, self._catalogue = item_ids, worn, catalogue

    def __contains__(self, item_id: object) -> bool:
        if not isinstance(item_id, str) or item_id in self._item_ids:
            return True
        return self._worn.refuses(item_id, self._catalogue.owner(item_id)) is not None
