"""Whole answers: of what a search found, the ads that rules of lists and a price floor leave; the rest from all others.

Found ads are looked at in the order of the search. Where they are too few, the answer is filled with the most popular
ads of the catalogue that pass the same filters and rules.

Shapes: R rows of the catalogue, X rows looked at, G rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbeam.catalogue.ads import AdCatalogue
from adbeam.decoding import ItemFilter
from adbeam.inference.recommender import FoundAd
from adbeam.list_rules.listing import Listing
from adbeam.list_rules.row_kinds import RowKinds
from adbeam.recorder import Recorder
from adbeam.serving.engine.prices import AnswerPrices
from adbeam.serving.engine.request import Query

AT_ONCE = 32
"""Found ads whose kinds are looked up together."""
CANDIDATES = 2000
"""Ads of the found semantic IDs that rules choose from, at most."""
FIRST_ROWS, MOST_ROWS = 128, 1 << 16
"""Rows looked at together when an answer is filled: few, then twice as many each time."""
PRICED_ROWS = 1024
"""Rows whose price is asked for when an answer is filled above a floor, at most: prices are made one by one."""
Ad = dict[str, Any]


class AnswerLists:
    """Makes the answers of one model legal and whole. For one thread."""

    def __init__(
        self, catalogue: AdCatalogue, prices: AnswerPrices, most: Mapping[str, int], has_caps: bool, metrics: Recorder
    ) -> None:
        """`most` ads of one kind by rule; `has_caps` where users have seen enough of some ads."""
        self._catalogue, self._prices, self._metrics = catalogue, prices, metrics
        self._most, self._has_caps = dict(most), has_caps
        self._kinds = RowKinds(catalogue, tuple(self._most))

    def categories(self, ads: Sequence[Ad]) -> dict[str, str | None]:
        """The categories of the ads of an answer, where a rule counts them."""
        if "category" not in self._most:
            return {}
        return {ad["item_id"]: self._catalogue.owner(ad["item_id"]).category for ad in ads}

    def chooses(self, query: Query) -> bool:
        """Whether not every found ad of a query may be in its answer."""
        return not query.is_free and (bool(self._most) or query.floor_ecpm > 0)

    def fills(self, query: Query) -> bool:
        """Whether the answer to a query is filled where the search found too few."""
        if self.chooses(query):
            return True
        return not query.is_free and (self._has_caps or bool(query.allowed or query.spent or query.demands))

    def kept(self, queries: Sequence[Query]) -> list[int | None] | None:
        """How many of the found semantic IDs each query needs, None for all; None as a whole: as many as ads."""
        chosen = [self.chooses(query) for query in queries]
        if not any(chosen):
            return None
        return [None if chooses else query.count for chooses, query in zip(chosen, queries, strict=True)]

    def candidates(self, query: Query) -> int:
        """Ads of the found semantic IDs that are looked at."""
        return CANDIDATES if self.chooses(query) else query.count

    def chosen(
        self,
        queries: Sequence[Query],
        found: Sequence[Iterator[FoundAd]],
        filters: Sequence[ItemFilter | None],
    ) -> tuple[list[list[FoundAd]], list[list[Ad]]]:
        """The found ads that each answer holds, and the popular ones that fill it, as the response carries them."""
        above = self._above_floor(queries, found)
        listings = [Listing(self._most if self.chooses(query) else {}, query.count) for query in queries]
        taken = [self._taken(*each) for each in zip(above, listings, strict=True)]
        fills = [
            self._filled(*each) if self.fills(each[0]) and each[2].left else []
            for each in zip(queries, taken, listings, filters, strict=True)
        ]
        for listing in listings:
            for rule, count in listing.passed_over.items():
                self._metrics.add("adbeam_ads_left_out", count, rule=f"most_per_{rule}")
        return taken, fills

    def _above_floor(
        self, queries: Sequence[Query], candidates: Sequence[Iterator[FoundAd]]
    ) -> Sequence[Iterator[FoundAd]]:
        if not any(query.floor_ecpm > 0 for query in queries):
            return candidates
        found = [list(ads) for ads in candidates]
        priced = self._prices.price(found, [query.scene for query in queries])
        above = [
            [ad for ad, price in zip(ads, prices, strict=True) if price >= query.floor_ecpm] if self.chooses(query)
            else ads
            for query, ads, prices in zip(queries, found, priced, strict=True)
        ]  # fmt: skip
        below = sum(map(len, found)) - sum(map(len, above))
        self._metrics.add("adbeam_ads_left_out", below, rule="floor_ecpm")
        return [iter(ads) for ads in above]

    def _taken(self, found: Iterator[FoundAd], listing: Listing) -> list[FoundAd]:
        taken: list[FoundAd] = []
        if not listing.rules:
            taken = list(islice(found, listing.left))
            listing.left -= len(taken)
            return taken
        while listing.left and (ads := list(islice(found, AT_ONCE))):
            kinds_XG = self._kinds_of(np.array([ad.row for ad in ads], np.int64), listing)
            taken += [ad for ad, kinds in zip(ads, kinds_XG, strict=True) if listing.left and listing.takes(kinds)]
        return taken

    def _kinds_of(self, row_X: NDArray[np.int64], listing: Listing) -> list[list[int | None]]:
        if not listing.rules:
            return [[]] * len(row_X)
        return [[None if kind < 0 else kind for kind in kinds] for kinds in self._kinds.kinds(row_X).tolist()]

    def _filled(
        self, query: Query, taken: Sequence[FoundAd], listing: Listing, item_filter: ItemFilter | None
    ) -> list[Ad]:
        """Popular ads behind the found ones; their score is 0, for the model did not rank them."""
        ads: list[Ad] = []
        has, floor, priced = {ad.row for ad in taken}, query.floor_ecpm, 0
        for row_X in self._open(listing, item_filter):
            for row, kinds in zip(row_X.tolist(), self._kinds_of(row_X, listing), strict=True):
                if row in has or not self._catalogue.is_current(row):
                    continue
                price = self._prices.plain(row, query.scene)
                priced += floor > 0
                if not (floor > 0 and (price is None or price < floor)) and listing.takes(kinds):
                    ads.append(self._catalogue.ad(row, 0.0, None, price))
                if not listing.left or priced >= PRICED_ROWS:
                    return ads
        return ads

    def _open(self, listing: Listing, item_filter: ItemFilter | None) -> Iterator[NDArray[np.int64]]:
        """Rows that the filter leaves and whose kinds are not full, most popular first."""
        denied_R = np.zeros(len(self._catalogue), np.bool_)
        if item_filter is not None:
            denied_R[np.asarray(item_filter.deny, np.int64)] = True
        for row_R in self._catalogue.popular_rows():
            start, size = 0, FIRST_ROWS
            while start < len(row_R):
                row_X = row_R[start : start + size]
                start, size = start + size, min(2 * size, MOST_ROWS)
                if item_filter is not None and item_filter.allow is not None:
                    row_X = row_X[row_X < len(item_filter.allow)]
                    row_X = row_X[item_filter.allow[row_X]]
                row_X = row_X[row_X < len(denied_R)]  # rows come while this is asked
                yield self._not_full(row_X[~denied_R[row_X]], listing)

    def _not_full(self, row_X: NDArray[np.int64], listing: Listing) -> NDArray[np.int64]:
        for place in range(listing.rules):
            full = np.array(listing.full(place), np.int64)
            if len(full):
                row_X = row_X[~np.isin(self._kinds.kinds(row_X)[:, place], full)]
        return row_X
