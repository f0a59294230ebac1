"""A neighbour on the machine: an on/off process that slows batches down, or stops the whole process.

Times on and off are exponential. A batch does its work at the speed of each moment, so one may begin in a calm and end
in a storm.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from pydantic import Field

from adbeam.settings import Section

SEED_STREAM = 1
"""Keeps the neighbour's draws apart from those of the batches: its times are the same for every policy."""


class SlowDown(Section):
    """One neighbour: how much slower batches are while it is on, and how long it is on and off."""

    times: float | None = Field(
        None, gt=1, allow_inf_nan=False, description="How many times slower; none: the whole process stands still."
    )
    mean_on_ms: float = Field(gt=0, description="Mean time it is on.")
    mean_off_ms: float = Field(gt=0, description="Mean time it is off.")


def _slower(times: float, on_ms: float, off_ms: float) -> SlowDown:
    return SlowDown(times=times, mean_on_ms=on_ms, mean_off_ms=off_ms)


NEIGHBOURS: Mapping[str, SlowDown | None] = MappingProxyType(
    {
        "none": None,
        "2x_100_100": _slower(2, 100, 100),
        "3x_100_100": _slower(3, 100, 100),
        "4x_100_100": _slower(4, 100, 100),
        "4x_500_500": _slower(4, 500, 500),
        "4x_50_150": _slower(4, 50, 150),
        "8x_30_200": _slower(8, 30, 200),
        "8x_100_900": _slower(8, 100, 900),
        "3x_2000_2000": _slower(3, 2000, 2000),
        "20x_60_1000": _slower(20, 60, 1000),
        "pause_50_of_500": SlowDown(mean_on_ms=50, mean_off_ms=450),
        "pause_200_of_2000": SlowDown(mean_on_ms=200, mean_off_ms=1800),
    }
)
"""Neighbours to try a law against: times slower, mean milliseconds on and off."""


class Speed:
    """The speed of a replica's core over time: 1, or less while the neighbour is on. Times are milliseconds from 0."""

    def __init__(self, slow_down: SlowDown | None, seed: int) -> None:
        self._slow_down = slow_down
        self._random = np.random.default_rng((seed, SEED_STREAM))
        self._edges_ms, self._work_ms, self._speeds = [0.0], [0.0], list[float]()

    def work_ms(self, time_ms: float) -> float:
        """Work done from 0 to `time_ms` by a core that never rests."""
        if self._slow_down is None:
            return time_ms
        self._reach(time_ms)
        place = bisect_right(self._edges_ms, time_ms) - 1
        return self._work_ms[place] + (time_ms - self._edges_ms[place]) * self._speeds[place]

    def end_ms(self, start_ms: float, work_ms: float) -> float:
        """When `work_ms` of work begun at `start_ms` is done."""
        if self._slow_down is None:
            return start_ms + work_ms
        goal_ms = self.work_ms(start_ms) + work_ms
        while self._work_ms[-1] < goal_ms:
            self._grow()
        place = max(bisect_left(self._work_ms, goal_ms) - 1, 0)
        return max(self._edges_ms[place] + (goal_ms - self._work_ms[place]) / self._speeds[place], start_ms)

    def awake_ms(self, time_ms: float) -> float:
        """`time_ms`, or the end of the pause of the whole process that it lies in: when a timer set to it fires."""
        if self._slow_down is None or self._slow_down.times is not None or not math.isfinite(time_ms):
            return time_ms
        self._reach(time_ms)
        place = bisect_right(self._edges_ms, time_ms) - 1
        return time_ms if self._speeds[place] > 0 else self._edges_ms[place + 1]

    def _reach(self, time_ms: float) -> None:
        while self._edges_ms[-1] <= time_ms:
            self._grow()

    def _grow(self) -> None:
        """Append one time off and one on."""
        assert self._slow_down is not None
        on_speed = 0.0 if self._slow_down.times is None else 1.0 / self._slow_down.times
        for mean_ms, speed in ((self._slow_down.mean_off_ms, 1.0), (self._slow_down.mean_on_ms, on_speed)):
            length_ms = float(self._random.exponential(mean_ms)) + 1e-6
            self._edges_ms.append(self._edges_ms[-1] + length_ms)
            self._work_ms.append(self._work_ms[-1] + length_ms * speed)
            self._speeds.append(speed)
