"""Filters of a request: what it wants left out of its answer, what alone it wants, and the masks of both.

Shapes: R rows of the catalogue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from adbeam.catalogue.owners import Owner

KEPT_MASKS = 256
"""Masks kept; the least recently used go first."""
NO_ROWS = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Blocked:
    """What an answer must not hold."""

    item_ids: frozenset[str] = frozenset()
    advertisers: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    seen: bool = False

    def __bool__(self) -> bool:
        return bool(self.item_ids or self.advertisers or self.categories or self.seen)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What alone an answer may hold: ads that every list names which is given; None is no list."""

    item_ids: frozenset[str] | None = None
    campaigns: frozenset[str] | None = None
    advertisers: frozenset[str] | None = None

    def __bool__(self) -> bool:
        return not (self.item_ids is None and self.campaigns is None and self.advertisers is None)

    def refuses(self, item_id: str, owner: Owner) -> str | None:
        """The first list that does not name an ad; None where all do."""
        held = {"item_ids": item_id, "campaigns": owner.campaign, "advertisers": owner.advertiser}
        for list_ in fields(self):
            named = getattr(self, list_.name)
            if named is not None and held[list_.name] not in named:
                return f"allowed_{list_.name}"
        return None


EVERYTHING = Allowed()


class RequestMasks:
    """Which rows the lists of a request leave, kept so that requests with the same lists share one compiled mask."""

    def __init__(
        self,
        rows_by: Mapping[str, Mapping[str, NDArray[np.int64]]],
        known_rows: Callable[[Iterable[str]], NDArray[np.int64]],
    ) -> None:
        """`rows_by` are the rows of each advertiser, campaign and category, `known_rows` those of item ids."""
        self._rows_by, self._known_rows = rows_by, known_rows
        self._kept: OrderedDict[Hashable, NDArray[np.bool_]] = OrderedDict()

    def allow(self, blocked: Blocked, allowed: Allowed, rows: int) -> NDArray[np.bool_] | None:
        """bool [R] of at least the first `rows`, where advertisers or categories are blocked or only some ads are
        allowed; None blocks nothing."""
        if not (blocked.advertisers or blocked.categories or allowed):
            return None
        key = (blocked.advertisers, blocked.categories, allowed)
        allow_R = self._kept.get(key)
        if allow_R is None or len(allow_R) < rows:  # a mask blocks the rows that are newer than it
            allow_R = self._kept[key] = self._made(blocked, allowed, rows)
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT_MASKS:
            self._kept.popitem(last=False)
        return allow_R

    def _made(self, blocked: Blocked, allowed: Allowed, rows: int) -> NDArray[np.bool_]:
        allow_R = np.ones(rows, np.bool_)
        for name, values in (("advertiser", blocked.advertisers), ("category", blocked.categories)):
            for value in values:
                allow_R[self._rows(name, value, rows)] = False
        for name, named in (("advertiser", allowed.advertisers), ("campaign", allowed.campaigns)):
            if named is not None:
                only_R = np.zeros(rows, np.bool_)
                for value in named:
                    only_R[self._rows(name, value, rows)] = True
                allow_R &= only_R
        if allowed.item_ids is not None:
            only_R, row = np.zeros(rows, np.bool_), self._known_rows(allowed.item_ids)
            only_R[row[row < rows]] = True
            allow_R &= only_R
        return allow_R

    def _rows(self, name: str, value: str, rows: int) -> NDArray[np.int64]:
        row = self._rows_by[name].get(value, NO_ROWS)
        return row[row < rows]
