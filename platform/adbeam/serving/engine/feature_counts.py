"""How often declared features have no value where requests are decoded: counted by feature, never by value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from adbeam.recorder import Recorder
from adbeam.serving.engine.request import Query
from adbeam.targeting.features import Features

SOURCES = ("request", "user")
"""Sources of the features that a request or its user's profile may tell."""


class FeatureCounts:
    """Counts for the features of requests and of users; there are at most MOST_FEATURES of them."""

    def __init__(self, features: Features, metrics: Recorder) -> None:
        self._names = tuple(name for name, feature in features.items() if feature.source in SOURCES)
        self._metrics = metrics

    def count(self, queries: Sequence[Query]) -> None:
        """Count queries whose users are read; those that tell nothing on purpose, as probes do, do not count."""
        if not self._names:
            return
        asked = [query for query in queries if query.context is not None]
        told = Counter(name for query in asked for name, _ in query.context or ())
        unread = Counter(name for query in asked for name in query.unread)
        for name in self._names:
            self._add("adbeam_feature_requests", len(asked), name)
            self._add("adbeam_feature_missing", len(asked) - told[name] - unread[name], name)
            self._add("adbeam_feature_unread", unread[name], name)

    def unknown(self, found: Mapping[str, int]) -> None:
        """Count requests that tell a word which the model does not know, by feature."""
        for name, count in found.items():
            self._add("adbeam_feature_unknown", count, name)

    def _add(self, metric: str, count: int, feature: str) -> None:
        if count:
            self._metrics.add(metric, count, feature=feature)
