"""The contexts of a batch: from stored histories to its tokens.

Most of the work is looking up hundreds of item ids a user, so the codes of the users seen last are kept; they are valid
as long as the same items are stored and no ad has changed its semantic id.

Shapes: B requests, H events of one user, T SID levels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from adbeam.catalogue.ads import AdCatalogue
from adbeam.declared.encoder import FeatureEncoder, ToldCodes
from adbeam.features.batch import ContextBatch
from adbeam.features.contexts import Moment, Trends, build_contexts
from adbeam.features.history import History
from adbeam.features.spec import FeatureSpec
from adbeam.serving.engine.feature_counts import FeatureCounts
from adbeam.serving.engine.request import Query
from adbeam.serving.stores.store import UserHistory

KEPT_USERS = 4096

ItemCodes = tuple[np.ndarray, np.ndarray | None]
"""int32 [h, T] of the events that have a SID, and which these are; None where all have."""


class ContextBuilder:
    """Makes the contexts of one model's requests. For one thread."""

    def __init__(
        self,
        catalogue: AdCatalogue,
        spec: FeatureSpec,
        trends: Trends | None = None,
        told: FeatureEncoder | None = None,
        counts: FeatureCounts | None = None,
    ) -> None:
        self._catalogue, self._spec, self._trends, self._told = catalogue, spec, trends, told
        self._counts = counts
        self._kept: OrderedDict[str, tuple[int, ItemCodes]] = OrderedDict()

    def build(
        self, queries: Sequence[Query], histories: Sequence[UserHistory], told: Sequence[ToldCodes] | None
    ) -> ContextBatch:
        """The contexts of `queries`, whose users' histories and what they told are given; events whose item has no SID
        are left out."""
        encoded = [self._encoded(query.user_id, history) for query, history in zip(queries, histories, strict=True)]
        codes = [()] * len(queries) if told is None else [one.codes for one in told]
        moments = [
            Moment(query.now_ms, query.scene, query.user_id, code) for query, code in zip(queries, codes, strict=True)
        ]
        return build_contexts(encoded, moments, self._spec, self._trends).batch()

    def told(self, queries: Sequence[Query]) -> list[ToldCodes] | None:
        """What each query tells the model; None where a model is told nothing."""
        if self._told is None:
            return None
        codes = self._told.codes([query.told.features if query.told else {} for query in queries])
        if self._counts is not None:
            self._counts.unknown(self._told.unknown(codes))
        return [ToldCodes(one, self._told.fingerprint) for one in codes]

    def _encoded(self, user_id: str | None, history: UserHistory) -> History:
        code_HT, known_H = self._codes(user_id, history.item_ids)
        return History.of(history, code_HT, known_H)

    def _codes(self, user_id: str | None, item_ids: list[str]) -> ItemCodes:
        if user_id is None or not item_ids:
            return self._looked_up(item_ids)
        content = hash((len(self._catalogue), *item_ids))  # an ad that changes gets a new row
        found = self._kept.get(user_id)
        if found is None or found[0] != content:
            found = self._kept[user_id] = content, self._looked_up(item_ids)
        self._kept.move_to_end(user_id)
        if len(self._kept) > KEPT_USERS:
            self._kept.popitem(last=False)
        return found[1]

    def _looked_up(self, item_ids: list[str]) -> ItemCodes:
        row_H = self._catalogue.rows(item_ids)
        known_H = row_H >= 0
        if known_H.all():
            return self._catalogue.codes(row_H), None
        return self._catalogue.codes(row_H[known_H]), known_H
