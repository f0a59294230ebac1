"""Filters of a request: what it wants left out of its answer, what alone it wants, and the masks of both.

Advertisers and categories are matched as adbeam.identity.names says: without case, domains with those below them.

Shapes: R rows of the catalogue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from adbeam.catalogue.owners import Owner
from adbeam.identity.names import advertiser, advertiser_names, category_names, folded

KEPT_MASKS = 256
"""Masks kept; the least recently used go first."""
NO_ROWS = np.zeros(0, np.int64)
ADVERTISERS, CATEGORIES = ("advertiser", "domain"), ("category", "listed_category")
"""Kinds of a row's values that a list of advertisers, or of categories, names."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """What an answer must not hold."""

    item_ids: frozenset[str] = frozenset()
    advertisers: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    seen: bool = False

    def __bool__(self) -> bool:
        return bool(self.item_ids or self.advertisers or self.categories or self.seen)

    def refused(self, advertisers: Collection[str | None], categories: Collection[str | None]) -> list[str]:
        """The lists that name one of these names of an ad."""
        found = []
        if self.advertisers and names_any(self.advertisers, advertisers):
            found.append("blocked_advertisers")
        if self.categories and not _categories(self.categories).isdisjoint(_all(category_names, categories)):
            found.append("blocked_categories")
        return found


@dataclass(frozen=True, slots=True)
class Allowed:
    """What alone an answer may hold: ads that every list names which is given; None is no list."""

    item_ids: frozenset[str] | None = None
    campaigns: frozenset[str] | None = None
    advertisers: frozenset[str] | None = None

    def __bool__(self) -> bool:
        return not (self.item_ids is None and self.campaigns is None and self.advertisers is None)

    def refuses(self, item_id: str, owner: Owner, domains: Iterable[str] = ()) -> str | None:
        """The first list that does not name an ad, which may have `domains` too; None where all do."""
        held = {"item_ids": item_id, "campaigns": owner.campaign}
        for list_ in fields(self):
            named = getattr(self, list_.name)
            if named is None:
                continue
            if list_.name == "advertisers":
                is_named = names_any(named, (owner.advertiser, *domains))
            else:
                is_named = held[list_.name] in named
            if not is_named:
                return f"allowed_{list_.name}"
        return None


EVERYTHING = Allowed()


def names_any(listed: frozenset[str], advertisers: Iterable[str | None]) -> bool:
    """Whether a list of advertisers names one of these, or a domain above it."""
    return not _advertisers(listed).isdisjoint(_all(advertiser_names, advertisers))


@lru_cache(KEPT_MASKS)
def _advertisers(listed: frozenset[str]) -> frozenset[str]:
    return frozenset(map(advertiser, listed))


@lru_cache(KEPT_MASKS)
def _categories(listed: frozenset[str]) -> frozenset[str]:
    return frozenset(map(folded, listed))


def _all(names: Callable[[str], Iterable[str]], values: Iterable[str | None]) -> Iterator[str]:
    return (name for value in values if value is not None for name in names(value))


class _Spellings:
    """The values of a catalogue by the names that mean them, as values come."""

    def __init__(self, values: Mapping[str, object], names: Callable[[str], Iterable[str]]) -> None:
        self._values, self._names, self._read = values, names, 0
        self._by_name: dict[str, list[str]] = {}

    def of(self, name: str) -> list[str]:
        """The values that a name in its one form means."""
        if self._read < len(self._values):
            values = list(self._values)  # another thread may add to it
            for value in islice(values, self._read, None):
                for meant in self._names(value):
                    self._by_name.setdefault(meant, []).append(value)
            self._read = len(values)
        return self._by_name.get(name, [])


class KeptMasks:
    """Compiled masks by what asks for them, so that requests that ask the same share one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, NDArray[np.bool_]] = OrderedDict()

    def of(self, key: Hashable, rows: int, make: Callable[[], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """bool [R] of at least the first `rows`: the kept one, or a new one where rows have come since."""
        allow_R = self._kept.get(key)
        if allow_R is None or len(allow_R) < rows:
            allow_R = self._kept[key] = make()
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT_MASKS:
            self._kept.popitem(last=False)
        return allow_R


class RequestMasks:
    """Which rows the lists of a request leave, kept so that requests with the same lists share one compiled mask."""

    def __init__(
        self,
        rows_by: Mapping[str, Mapping[str, NDArray[np.int64]]],
        known_rows: Callable[[Iterable[str]], NDArray[np.int64]],
    ) -> None:
        """`rows_by` are the rows of each advertiser, campaign and category, and of each of ADVERTISERS and CATEGORIES
        that is known, `known_rows` those of item ids."""
        self._rows_by, self._known_rows = rows_by, known_rows
        self._kept = KeptMasks()
        self._spellings = {
            kind: _Spellings(rows_by[kind], names)
            for kinds, names in ((ADVERTISERS, advertiser_names), (CATEGORIES, category_names))
            for kind in kinds
            if kind in rows_by
        }

    def allow(self, blocked: Blocked, allowed: Allowed, rows: int) -> NDArray[np.bool_] | None:
        """bool [R] of at least the first `rows`, where advertisers or categories are blocked or only some ads are
        allowed; None blocks nothing."""
        if not (blocked.advertisers or blocked.categories or allowed):
            return None
        key = (blocked.advertisers, blocked.categories, allowed)
        return self._kept.of(key, rows, partial(self._made, blocked, allowed, rows))

    def _made(self, blocked: Blocked, allowed: Allowed, rows: int) -> NDArray[np.bool_]:
        allow_R = np.ones(rows, np.bool_)
        for row in self._named(ADVERTISERS, map(advertiser, blocked.advertisers)):
            allow_R[row[row < rows]] = False
        for row in self._named(CATEGORIES, map(folded, blocked.categories)):
            allow_R[row[row < rows]] = False
        if allowed.advertisers is not None:
            allow_R &= _only(self._named(ADVERTISERS, map(advertiser, allowed.advertisers)), rows)
        if allowed.campaigns is not None:
            of_campaign = self._rows_by["campaign"]
            allow_R &= _only((of_campaign.get(name, NO_ROWS) for name in allowed.campaigns), rows)
        if allowed.item_ids is not None:
            allow_R &= _only([self._known_rows(allowed.item_ids)], rows)
        return allow_R

    def _named(self, kinds: Iterable[str], names: Iterable[str]) -> Iterator[NDArray[np.int64]]:
        """The rows whose values of these kinds the names mean."""
        for name in names:
            for kind in kinds:
                if kind in self._spellings:
                    yield from (self._rows_by[kind][value] for value in self._spellings[kind].of(name))


def _only(rows_of: Iterable[NDArray[np.int64]], rows: int) -> NDArray[np.bool_]:
    only_R = np.zeros(rows, np.bool_)
    for row in rows_of:
        only_R[row[row < rows]] = True
    return only_R


def both(one_R: NDArray[np.bool_] | None, other_R: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """What both masks allow, of the rows that both know; None allows everything."""
    if one_R is None or other_R is None:
        return other_R if one_R is None else one_R
    shared = min(len(one_R), len(other_R))  # rows come while this is asked
    both_R: NDArray[np.bool_] = one_R[:shared] & other_R[:shared]
    return both_R
