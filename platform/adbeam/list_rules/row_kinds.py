"""The kinds of catalogue rows as numbers, so that a thousand candidates are looked up at once.

Shapes: R rows, X rows asked for, G rules.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adbeam.catalogue.owners import Owner

NONE = -1
"""The number of a row of which nobody said."""
GROWTH = 1.5


class Rows(Protocol):
    """A catalogue, as far as rows are told apart."""

    def __len__(self) -> int:
        """R."""

    def owner_of(self, row: int) -> Owner:
        """Advertiser, campaign and category of a row."""

    def sid_of(self, row: int) -> Sequence[int]:
        """Its semantic ID."""


class RowKinds:
    """Numbers of the kinds of rows, one column a rule; rows that come while ads are served are read when asked for."""

    def __init__(self, rows: Rows, rules: Sequence[str]) -> None:
        """`rules` are names of Owner's fields, or `sid`."""
        self._rows, self._rules = rows, tuple(rules)
        self._numbers: list[dict[object, int]] = [{} for _ in rules]
        self._kinds_RG = np.zeros((0, len(self._rules)), np.int32)
        self._known = 0
        self._catching_up = threading.Lock()
        self._catch_up()

    def kinds(self, row_X: NDArray[np.int64]) -> NDArray[np.int32]:
        """int32 [X, G]; NONE where nobody said."""
        if self._known < len(self._rows):
            self._catch_up()
        kinds_XG: NDArray[np.int32] = self._kinds_RG[row_X]
        return kinds_XG

    def _catch_up(self) -> None:
        with self._catching_up:  # threads that decode and that explain may both ask
            first, size = self._known, len(self._rows)
            if size > len(self._kinds_RG):
                grown = np.full((int(size * GROWTH) + 1, len(self._rules)), NONE, np.int32)
                grown[:first] = self._kinds_RG[:first]
                self._kinds_RG = grown
            for place, rule in enumerate(self._rules):
                read, numbers = self._reader(rule), self._numbers[place]
                self._kinds_RG[first:size, place] = [
                    NONE if (value := read(row)) is None else numbers.setdefault(value, len(numbers))
                    for row in range(first, size)
                ]
            self._known = size

    def _reader(self, rule: str) -> Callable[[int], object]:
        if rule == "sid":
            return lambda row: tuple(self._rows.sid_of(row)) or None
        return lambda row: getattr(self._rows.owner_of(row), rule)
