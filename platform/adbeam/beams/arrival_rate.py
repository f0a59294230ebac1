"""The arrival rate, requests a second: fast when the load changes, calm when it does not.

Arrivals are counted in windows of rising length. The longest window that no shorter one contradicts gives the rate:
under steady load the longest (little noise), within a tenth of a second of a step the shortest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BIN_MS = 20.0
CONTRADICTION_SIGMAS = 4.0
"""Two windows disagree beyond this many standard deviations of Poisson counts (square-root scale)."""


class ArrivalRate:
    """Counts arrivals in bins of 20 ms; memory is bounded by the longest window."""

    def __init__(self, windows_seconds: Sequence[float], now_ms: float) -> None:
        self._windows = [max(1, round(seconds * 1000 / BIN_MS)) for seconds in windows_seconds]
        self._counts = np.zeros(self._windows[-1] + 1, dtype=np.int64)
        self._start_ms = now_ms
        self._bin = int(now_ms // BIN_MS)

    def arrived(self, now_ms: float, count: int = 1) -> None:
        """Count `count` arrivals at `now_ms`."""
        self._advance(now_ms)
        self._counts[self._bin % len(self._counts)] += count

    def per_second(self, now_ms: float) -> float:
        """The rate of the longest window that every shorter one agrees with."""
        counts, spans_ms = self._windowed(now_ms)
        chosen = 0
        for longer in range(1, len(counts)):
            if spans_ms[longer] <= spans_ms[chosen] or self._contradicts(counts, spans_ms, longer):
                break
            chosen = longer
        return 1000.0 * counts[chosen] / spans_ms[chosen]

    def over(self, window_seconds: float, now_ms: float) -> float:
        """The plain average over the last `window_seconds` (at most the longest window)."""
        self._advance(now_ms)
        bins = min(max(1, round(window_seconds * 1000 / BIN_MS)), len(self._counts) - 1)
        return 1000.0 * int(self._newest(bins + 1).sum()) / self._span_ms(bins, now_ms)

    def _windowed(self, now_ms: float) -> tuple[list[int], list[float]]:
        self._advance(now_ms)
        summed = np.cumsum(self._newest(self._windows[-1] + 1))
        return [int(summed[bins]) for bins in self._windows], [self._span_ms(bins, now_ms) for bins in self._windows]

    @staticmethod
    def _contradicts(counts: list[int], spans_ms: list[float], longer: int) -> bool:
        for shorter in range(longer):
            older_ms = spans_ms[longer] - spans_ms[shorter]
            if older_ms <= 0:
                continue
            expected = (counts[longer] - counts[shorter]) * spans_ms[shorter] / older_ms
            sigma = math.sqrt(1.0 + spans_ms[shorter] / older_ms)
            gap = abs(2.0 * (math.sqrt(counts[shorter] + 0.375) - math.sqrt(expected + 0.375)))
            if gap > CONTRADICTION_SIGMAS * sigma:
                return True
        return False

    def _span_ms(self, bins: int, now_ms: float) -> float:
        """The time that `bins` whole bins and the running one cover, no longer than since the start."""
        covered = bins * BIN_MS + (now_ms - self._bin * BIN_MS)
        return max(min(covered, now_ms - self._start_ms), self._windows[0] * BIN_MS)

    def _newest(self, bins: int) -> np.ndarray:
        places = (self._bin - np.arange(bins)) % len(self._counts)
        return self._counts[places]

    def _advance(self, now_ms: float) -> None:
        current = int(now_ms // BIN_MS)
        passed = current - self._bin
        if passed <= 0:
            return
        if passed >= len(self._counts):
            self._counts[:] = 0
        else:
            self._counts[(self._bin + 1 + np.arange(passed)) % len(self._counts)] = 0
        self._bin = current
