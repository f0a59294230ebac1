"""How many rows of the catalogue the filters and rules of a query close: counted rule by rule, some queries for all.

A mask is joined from all rules, so that none of them alone is at hand. Counting them one by one for every query would
cost a large catalogue more than the rules themselves, so one query of SAMPLED is counted, for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from adbeam.catalogue.ads import AdCatalogue
from adbeam.catalogue.blocked import EVERYTHING, Allowed, Blocked
from adbeam.recorder import Recorder
from adbeam.serving.engine.request import Query
from adbeam.serving.stores.store import UserHistory
from adbeam.targeting.told import Told

SAMPLED = 64
"""Of so many queries with filters or rules one is counted, so many times over."""
Part = tuple[str, Blocked, Told | None, Allowed]


def closed_rows(query: Query, history: UserHistory, catalogue: AdCatalogue) -> dict[str, int]:
    """{filter: rows of the catalogue that it closes}, of the filters of a query and of targeting rules."""
    found = {}
    for name, blocked, told, allowed in _parts(query):
        alone = catalogue.item_filter(blocked, history.item_ids if blocked.seen else (), told, allowed)
        if alone is not None:
            masked = 0 if alone.allow is None else len(alone.allow) - int(np.count_nonzero(alone.allow))
            found[name] = masked + len(np.unique(np.asarray(alone.deny, np.int64)))
    return found


def _parts(query: Query) -> Iterator[Part]:
    blocked, allowed = query.blocked, query.allowed
    if query.told is not None:
        yield "targeting", Blocked(), query.told, EVERYTHING
    for name in ("item_ids", "advertisers", "categories"):
        if values := getattr(blocked, name):
            yield f"blocked_{name}", Blocked(**{name: values}), None, EVERYTHING
    if blocked.seen:
        yield "exclude_seen", Blocked(seen=True), None, EVERYTHING
    for name in ("item_ids", "campaigns", "advertisers"):
        if (named := getattr(allowed, name)) is not None:
            yield f"allowed_{name}", Blocked(), None, Allowed(**{name: named})


class ClosedRowCounts:
    """Counts what filters and rules close. For one thread."""

    def __init__(self, catalogue: AdCatalogue, metrics: Recorder) -> None:
        self._catalogue, self._metrics, self._queries = catalogue, metrics, 0

    def count(self, query: Query, history: UserHistory) -> None:
        """Take note of a query with filters or rules; the first is counted."""
        self._queries += 1
        if self._queries % SAMPLED == 1 and not query.is_free:
            for name, rows in closed_rows(query, history, self._catalogue).items():
                self._metrics.add("adbeam_ads_left_out", SAMPLED * rows, rule=name)
