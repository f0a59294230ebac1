"""How batch times scatter beside a neighbour: what the next batch may take, by whether the last one was quick or slow.

A batch's ratio is its measured over its modelled time. Where all are alike there is no scatter, and nobody asks here.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

RATIO_BOUNDS = (0.25, 50.0)
RECENT, STRAYS, STRAY = 256, 3, 1.4
"""Times scatter once this many of the recent batches took so many times more or less than their median."""
AFTER = 64
"""Batches remembered after a quick one, and after a slow one: storms may be rare."""
ENOUGH = 6
"""With fewer batches after such a one, all recent ones speak."""
SLOW = 1.3
"""A batch that takes so many times what the quick ones take is slow."""
QUICK_SHARE, TYPICAL_SHARE, CAUTIOUS_SHARE = 0.2, 0.5, 0.8
"""Shares of batches that are as quick: what may be hoped for, what is likely, what is planned with."""
MEAN_MS = 8000.0
"""Time of decoding over which the mean ratio is taken: longer than storms that deadlines can bridge."""


class Scatter:
    """The ratios of recent batches and the state of the machine they tell."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._after = {slow: deque[float](maxlen=AFTER) for slow in (False, True)}
        self._slow = self.shows = False
        self._measured_ms = self._modelled_ms = 0.0

    def observe(self, modelled_ms: float, measured_ms: float) -> None:
        """Learn from one batch."""
        ratio = min(max(measured_ms / max(modelled_ms, 1e-6), RATIO_BOUNDS[0]), RATIO_BOUNDS[1])
        self._recent.append(ratio)
        self._after[self._slow].append(ratio)
        recent = np.sort(np.array(self._recent))
        median = recent[len(recent) // 2]
        self.shows = bool(((recent > STRAY * median) | (recent * STRAY < median)).sum() >= STRAYS)
        self._slow = bool(ratio > SLOW * recent[int(QUICK_SHARE * len(recent))])
        fades = math.exp(-measured_ms / MEAN_MS)
        self._measured_ms = fades * self._measured_ms + measured_ms
        self._modelled_ms = fades * self._modelled_ms + modelled_ms

    @property
    def mean(self) -> float:
        """Measured over modelled time of the last seconds, each batch by its length."""
        return self._measured_ms / self._modelled_ms if self._modelled_ms > 0 else 1.0

    def next_ratios(self) -> np.ndarray:
        """What batches took after one like the last, rising."""
        after = self._after[self._slow]
        return np.sort(np.array(after if len(after) >= ENOUGH else self._recent))
