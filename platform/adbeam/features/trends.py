"""Trending ads in the language of the model: semantic IDs and bucketed shares, for training, evaluation and serving.

Shapes: N ads, T SID levels, W windows, C features.
"""

from __future__ import annotations

from collections import OrderedDict

from adbeam.features.buckets import encode_trending
from adbeam.features.contexts import Trending
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.logs.trending import TrendingAds, TrendTable
from adbeam.records import HOUR_MS

KEPT_HOURS = 4096


class EncodedTrends:
    """A log's trends by hour, encoded when first asked for."""

    def __init__(self, table: TrendTable, sids: SidTable, spec: FeatureSpec) -> None:
        self._table, self._sids, self._spec = table, sids, spec
        self._kept: OrderedDict[int, Trending] = OrderedDict()

    def at(self, now_ms: int) -> Trending:
        """What was trending at `now_ms`."""
        hour = now_ms // HOUR_MS
        if hour not in self._kept:
            self._kept[hour] = encode_ads(self._table.at(now_ms), self._sids, self._spec)
            if len(self._kept) > KEPT_HOURS:
                self._kept.popitem(last=False)
        return self._kept[hour]


def encode_ads(trending: TrendingAds, sids: SidTable, spec: FeatureSpec) -> Trending:
    """The ads that have a SID, most trending first."""
    code_nT, known_n = sids.lookup(trending.item_N)
    return encode_trending(code_nT[known_n], trending.share_NW[known_n], spec)
