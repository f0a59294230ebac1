"""What a replica tells the model about trends: the history store's counts, encoded, a minute old at most.

The first request of an hour reads the counts; later ones find them ready, and a thread renews them every minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from adbeam.features.contexts import Trending
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.features.trends import encode_ads
from adbeam.logs.trending import NOTHING, TrendingAds
from adbeam.records import HOUR_MS
from adbeam.serving.stores.store import HistoryStore

logger = logging.getLogger(__name__)

FRESH_SECONDS = 60.0
"""An older snapshot is read again in the background: only the first request of an hour waits for the store."""
KEPT_HOURS = 256


@dataclass
class _Snapshot:
    encoded: Trending
    read_s: float
    renewing: bool = False


class StoreTrends:
    """Trends of the hours that requests ask for. `at` is called by one thread."""

    def __init__(
        self, store: HistoryStore, sids: SidTable, spec: FeatureSpec, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._sids, self._spec, self._clock = store, sids, spec, clock
        self._kept: OrderedDict[int, _Snapshot] = OrderedDict()

    def at(self, now_ms: int) -> Trending:
        """What converts most before the hour of `now_ms`; nothing while the store cannot be read."""
        hour = now_ms // HOUR_MS
        kept = self._kept.get(hour)
        if kept is None:
            kept = self._kept[hour] = _Snapshot(self._read(hour), self._clock())
            if len(self._kept) > KEPT_HOURS:
                self._kept.popitem(last=False)
        elif self._clock() - kept.read_s > FRESH_SECONDS and not kept.renewing:
            kept.renewing = True
            threading.Thread(target=self._renew, args=(hour, kept), name="trends", daemon=True).start()
        return kept.encoded

    def _renew(self, hour: int, kept: _Snapshot) -> None:
        kept.encoded = self._read(hour)
        kept.read_s, kept.renewing = self._clock(), False

    def _read(self, hour: int) -> Trending:
        try:
            trending = TrendingAds.of_counts(self._store.conversions(hour), self._spec.trending_length)
        except Exception:
            logger.exception("conversions cannot be read from the history store; no ad counts as trending")
            trending = NOTHING
        return encode_ads(trending, self._sids, self._spec)
