"""The lag of the event loop: time that an answer needs on its way out and a decode must not take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

HALF_LIFE_SECONDS = 1.0


class ReplyLag:
    """The largest lateness of the last seconds, fading by half each HALF_LIFE_SECONDS. Used from the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._largest_ms, self._at_s = 0.0, clock()

    def observe(self, due_s: float) -> None:
        """Something that was due at `due_s` (of the same clock) happens now."""
        now_s = self._clock()
        late_ms = 1000.0 * (now_s - due_s)
        if late_ms > self._faded(now_s):
            self._largest_ms, self._at_s = late_ms, now_s

    def ms(self, most: float) -> float:
        """How late the loop may be now, at most `most`."""
        return min(self._faded(self._clock()), most)

    def _faded(self, now_s: float) -> float:
        return self._largest_ms * math.pow(0.5, (now_s - self._at_s) / HALF_LIFE_SECONDS)
