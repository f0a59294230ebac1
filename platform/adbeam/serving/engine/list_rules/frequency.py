"""Frequency caps on the way through a search: what a user has seen enough of becomes rows that it leaves out."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adbeam.catalogue.ads import AdCatalogue
from adbeam.catalogue.blocked import both
from adbeam.decoding import ItemFilter
from adbeam.list_rules.caps import NOTHING_WORN, Worn, worn_by
from adbeam.list_rules.config import FrequencyCap
from adbeam.recorder import Recorder
from adbeam.serving.engine.request import Query
from adbeam.serving.stores.store import UNREAD, UserHistory


class FrequencyCaps:
    """The caps of one model's users. For one thread but `worn`."""

    def __init__(
        self,
        catalogue: AdCatalogue,
        caps: Sequence[FrequencyCap],
        metrics: Recorder,
        withheld: frozenset[str] = frozenset(),
    ) -> None:
        """Ads that caps of the kinds `withheld` might hold for are kept from users whose history was not read."""
        self._catalogue, self._caps, self._metrics = catalogue, caps, metrics
        self._withheld = withheld
        self._open: tuple[int, NDArray[np.bool_]] | None = None

    def worn(self, query: Query, history: UserHistory) -> Worn:
        """What the user of a query has seen enough of, by the history that it is answered with."""
        if query.is_free:
            return NOTHING_WORN
        if history is UNREAD and self._caps:
            self._metrics.add("adbeam_caps_unread", then="withhold" if self._withheld else "show")
            return Worn(spent=query.spent, withheld=self._withheld)
        worn = worn_by(history, self._caps, query.now_ms, self._catalogue.owner) if self._caps else NOTHING_WORN
        return replace(worn, spent=query.spent) if query.spent else worn

    def without(self, item_filter: ItemFilter | None, worn: Worn) -> ItemFilter | None:
        """The filter of a query, closed for what is worn."""
        if not worn:
            return item_filter
        parts = self.rows(worn)
        for name, rows in parts.items():
            self._metrics.add("adbeam_ads_left_out", len(rows), rule=name)
        found = item_filter or ItemFilter()
        if worn.withheld:
            open_R = self._open_rows()
            self._metrics.add("adbeam_ads_left_out", int((~open_R).sum()), rule="frequency_caps_unread")
            found = replace(found, allow=both(found.allow, open_R))
        return replace(found, deny=np.concatenate([np.asarray(found.deny, np.int64), *parts.values()]))

    def _open_rows(self) -> NDArray[np.bool_]:
        """bool [R]: the rows that no withheld cap might hold for; kept until there are more rows."""
        size = len(self._catalogue)
        if self._open is None or self._open[0] != size:
            open_R = np.full(size, "ad" not in self._withheld)
            for kind in self._withheld - {"ad"}:
                row = self._catalogue.owned_rows(kind)
                open_R[row[row < size]] = False
            self._open = size, open_R
        return self._open[1]

    def rows(self, worn: Worn) -> dict[str, NDArray[np.int64]]:
        """{cap or budget: the rows of the catalogue that it closes}."""
        return {
            "frequency_cap_ad": self._catalogue.known_rows(worn.ads),
            "frequency_cap_campaign": self._catalogue.rows_of((), worn.campaigns),
            "frequency_cap_advertiser": self._catalogue.rows_of(worn.advertisers, ()),
            "budget": self._catalogue.rows_of((), worn.spent),
        }


class Hidden(Container[str]):
    """Ads that share a semantic ID with others and are left out of it."""

    def __init__(self, item_ids: frozenset[str], worn: Worn, catalogue: AdCatalogue) -> None:
        self._item_ids, self._worn, self._catalogue = item_ids, worn, catalogue

    def __contains__(self, item_id: object) -> bool:
        if not isinstance(item_id, str) or item_id in self._item_ids:
            return True
        return self._worn.refuses(item_id, self._catalogue.owner(item_id)) is not None
