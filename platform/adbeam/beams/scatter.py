"""How batch times scatter beside a neighbour: what the next batch may take, by whether the last one was quick or slow.

A batch's ratio is its measured over its modelled time. Where all are alike there is no scatter, and nobody asks here.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence

RATIO_BOUNDS = (0.25, 50.0)
RECENT, STRAYS, STRAY = 256, 3, 1.4
"""Times scatter once this many of the recent batches took so many times more or less than their median."""
HICCUP = 16
"""For so many batches after a stray, or after the process stood still, there is a hiccup: the backlog that it left says
nothing of the next batches."""
AFTER = 64
"""Batches remembered after a quick one, and after a slow one: storms may be rare."""
ENOUGH = 6
"""With fewer batches after such a one, all recent ones speak."""
SLOW = 1.3
"""A batch that takes so many times what the quick ones take is slow."""
UNMEASURED = (1.0,)
QUICK_SHARE, TYPICAL_SHARE, CAUTIOUS_SHARE = 0.2, 0.5, 0.8
"""Shares of batches that are as quick: what may be hoped for, what is likely, what is planned with."""
MEAN_MS = 8000.0
"""Time of decoding over which the mean ratio is taken: longer than storms that deadlines can bridge."""


class Newest:
    """The newest `most` numbers, at hand in rising order: learning one costs no sort."""

    def __init__(self, most: int) -> None:
        self._numbers: deque[float] = deque(maxlen=most)
        self.rising: list[float] = []

    def append(self, number: float) -> None:
        """Take one in, in place of the oldest where there are `most`."""
        if len(self._numbers) == self._numbers.maxlen:
            del self.rising[bisect_left(self.rising, self._numbers[0])]
        self._numbers.append(number)
        insort(self.rising, number)


class Scatter:
    """The ratios of recent batches and the state of the machine they tell."""

    def __init__(self) -> None:
        self._recent = Newest(RECENT)
        self._after = {slow: Newest(AFTER) for slow in (False, True)}
        self.slow = False
        self._strays, self._since_hiccup = 0, HICCUP
        self._measured_ms = self._modelled_ms = 0.0

    def observe(self, modelled_ms: float, measured_ms: float) -> None:
        """Learn from one batch."""
        ratio = min(max(measured_ms / max(modelled_ms, 1e-6), RATIO_BOUNDS[0]), RATIO_BOUNDS[1])
        self._recent.append(ratio)
        self._after[self.slow].append(ratio)
        recent = self._recent.rising
        median = recent[len(recent) // 2]
        longer = len(recent) - bisect_right(recent, STRAY * median)
        shorter = bisect_left(recent, median, key=lambda ratio: STRAY * ratio)
        self._strays = longer + shorter
        strayed = len(recent) >= ENOUGH and ratio > STRAY * median
        self._since_hiccup = 0 if strayed else self._since_hiccup + 1
        self.slow = ratio > SLOW * recent[int(QUICK_SHARE * len(recent))]
        fades = math.exp(-measured_ms / MEAN_MS)
        self._measured_ms = fades * self._measured_ms + measured_ms
        self._modelled_ms = fades * self._modelled_ms + modelled_ms

    def stood_still(self) -> None:
        """Learn that a request waited beside an idle decoder: there was no batch to take longer."""
        self._since_hiccup = 0

    @property
    def shows(self) -> bool:
        """Whether what the next batch takes is a matter of odds."""
        return self._strays >= STRAYS

    @property
    def hiccup(self) -> bool:
        """Whether a single batch or pause of late was out of line."""
        return self._since_hiccup < HICCUP

    @property
    def mean(self) -> float:
        """Measured over modelled time of the last seconds, each batch by its length."""
        return self._measured_ms / self._modelled_ms if self._modelled_ms > 0 else 1.0

    def next_ratios(self) -> Sequence[float]:
        """What batches took after one like the last, rising; as modelled while none has been measured."""
        after = self._after[self.slow].rising
        return after if len(after) >= ENOUGH else self._recent.rising or UNMEASURED

    def next_ratio(self, share: float) -> float:
        """The ratio that `share` of the batches after one like the last did not exceed, interpolated."""
        ratios = self.next_ratios()
        place = share * (len(ratios) - 1)
        before = int(place)
        after = min(before + 1, len(ratios) - 1)
        return ratios[before] + (place - before) * (ratios[after] - ratios[before])
