"""Equal-frequency eCPM buckets: the classes of the step after the SID (GR4AD 1.5). Numpy only.

Their means are what answers are ordered by and bids come from, so one amount in the wrong unit must not move them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from adbeam.logs.money import reason_limit

FEW = 0.01
"""A larger share of the values beyond reason is no slip of some rows: it is what the log is."""


@dataclass(frozen=True)
class EcpmBuckets:
    """Edges between the buckets and the mean value of each, in the log's money."""

    edges: np.ndarray
    """float64 [n - 1], not falling. Bucket b holds edges[b - 1] <= value < edges[b]."""
    means: np.ndarray
    """float64 [n]; an empty bucket (many equal values) has the value of its edge."""

    @classmethod
    def fit(cls, values: np.ndarray, buckets: int) -> Self:
        """Buckets that hold equally many of the finite `values`; with none at all, every bucket means 0.

        Values beyond reason, above 1,000 times the median of those above 0 (`logs.money.MOST_MEDIANS`), are left out
        of edges and means as if they were not there, as long as they are one value or at most 1 in 100 (FEW); `assign`
        puts them into the top bucket. More than that are a population of their own and stay: `prepare` warns of them,
        and `export` refuses where they hold most of the money.
        """
        values = np.asarray(values, dtype=np.float64)
        values = within_reason(np.sort(values[np.isfinite(values)]))
        if not len(values):
            return cls(np.zeros(buckets - 1), np.zeros(buckets))
        edges = np.quantile(values, np.arange(1, buckets) / buckets, method="higher")
        bucket = np.searchsorted(edges, values, side="right")
        count = np.bincount(bucket, minlength=buckets)
        total = np.bincount(bucket, weights=values, minlength=buckets)
        low = np.concatenate([values[:1], edges])
        return cls(edges, np.where(count > 0, total / np.maximum(count, 1), low))

    def assign(self, values: np.ndarray) -> np.ndarray:
        """int64 bucket of each value; -1 where the value is not finite."""
        values = np.asarray(values, dtype=np.float64)
        known = np.isfinite(values)
        return np.where(known, np.searchsorted(self.edges, np.where(known, values, 0.0), side="right"), -1)

    def as_dict(self) -> dict[str, Sequence[float]]:
        """What a bundle stores; `from_dict` reads it."""
        return {"edges": self.edges.tolist(), "means": self.means.tolist()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The buckets that `as_dict` stored."""
        return cls(np.asarray(stored["edges"], dtype=np.float64), np.asarray(stored["means"], dtype=np.float64))


def within_reason(values: np.ndarray) -> np.ndarray:
    """Finite, rising `values` without the few that lie beyond reason (`EcpmBuckets.fit` has the rule)."""
    kept = int(np.searchsorted(values, reason_limit(values), side="right"))
    return values[:kept] if len(values) - kept <= max(1, FEW * len(values)) else values


class SlidingEcpm:
    """Buckets over the newest `window` values of a stream."""

    def __init__(self, buckets: int, window: int) -> None:
        self.buckets = buckets
        self._ring = np.full(window, np.nan)
        self._seen = 0

    def add(self, values: np.ndarray) -> None:
        """Take in new values, oldest first; values that are not finite are left out."""
        values = np.asarray(values, dtype=np.float64).ravel()
        values = values[np.isfinite(values)]
        kept = values[-len(self._ring) :]
        start = self._seen + len(values) - len(kept)
        self._ring[(start + np.arange(len(kept))) % len(self._ring)] = kept
        self._seen += len(values)

    def current(self) -> EcpmBuckets:
        """Equal-frequency buckets of the window as it stands."""
        return EcpmBuckets.fit(self._ring, self.buckets)
