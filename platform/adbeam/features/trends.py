"""Trending ads in the language of the model: semantic IDs and bucketed shares, for training, evaluation and serving.

Shapes: N ads, T SID levels, W windows, C features, G snapshots (one an hour), n rows of all snapshots, I distinct
ads.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from adbeam.features.buckets import encode_trending, no_trending, share_bucket
from adbeam.features.contexts import Trending
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.logs.trending import TrendingAds, TrendTable


class EncodedTrends:
    """A log's trends by hour; all are encoded together when the first is asked for."""

    def __init__(self, table: TrendTable, sids: SidTable, spec: FeatureSpec) -> None:
        self._table, self._sids, self._spec = table, sids, spec

    def at(self, now_ms: int) -> Trending:
        """What was trending at `now_ms`."""
        place = self._table.snapshot(now_ms)
        if place is None:
            return self._nothing
        code_GNT, feature_GNC = self._encoded
        return code_GNT[place], feature_GNC[place]

    @cached_property
    def _nothing(self) -> Trending:
        return no_trending(self._spec)

    @cached_property
    def _encoded(self) -> tuple[np.ndarray, np.ndarray]:
        """What `encode_ads` makes of every snapshot: codes [G, N, T], features [G, N, C]; 8 MB a year of 64 ads."""
        start, item_n = self._table.start, self._table.item_n
        code_IT, known_I = self._sids.lookup(self._table.items)
        known_n = known_I[item_n]
        snapshot_n = np.arange(len(start) - 1).repeat(np.diff(start))[known_n]
        first_G = np.searchsorted(snapshot_n, np.arange(len(start) - 1))
        rank_n = np.arange(len(snapshot_n)) - first_G[snapshot_n]
        kept_n = rank_n < self._spec.trending_length
        row_n = known_n.nonzero()[0][kept_n]
        at = snapshot_n[kept_n], rank_n[kept_n]
        code_GNT, feature_GNC = (np.repeat(none[None], len(first_G), axis=0) for none in self._nothing)
        code_GNT[at] = code_IT[item_n[row_n]]
        feature_GNC[at] = share_bucket(self._table.share_nW[row_n])
        return code_GNT, feature_GNC


def encode_ads(trending: TrendingAds, sids: SidTable, spec: FeatureSpec) -> Trending:
    """The ads that have a SID, most trending first."""
    code_nT, known_n = sids.lookup(trending.item_N)
    return encode_trending(code_nT[known_n], trending.share_NW[known_n], spec)
