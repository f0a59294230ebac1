"""The cost model: what a batch costs, corrected by what batches really took.

`cost_ms = a + sum over requests (c0 + c1 * rows)`; the coefficients come from timed decodes when a replica starts.
Online a fast factor follows what hits every rung (HTTP work on the same cores) and serves the deadlines, a steady one
serves utilisation, and a slow one for each rung follows what the straight line misses there. Time in which the decoder
had no processor is no cost of any rung: the steady factor is the cost of its own time, over the share of the time that
it gets one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from statistics import median
from typing import Self

import numpy as np
from numpy.typing import NDArray

from adbeam.beams.scatter import Scatter
from adbeam.errors import UserError

FACTOR_BOUNDS = (0.25, 8.0)
RUNG_FACTOR_BOUNDS = (0.67, 1.5)
RUNG_GAIN = 0.03
RUNG_LEAK = 0.005
"""Pull of a rung's own factor to 1: what hits every rung alike belongs into the common factor."""
STEADY_GAIN = 0.06
STALL_CLIP = 2.0
OFF_CPU_MS = 2000.0
"""Time of decoding over which the share without a processor is averaged: one hiccup is a few per cent of it."""
LEAST_ON_CPU = 0.1
"""A decoder is taken to get at least this share of a processor."""
STALL_WINDOW = 3
"""Batches whose median is believed: one stalled batch moves nothing, two in a row do."""


def beam_rows(widths: Sequence[int]) -> int:
    """Rows entering the decoder over all steps: 1 at the first level, w_t at each next, w_T at the eCPM step."""
    return 1 + sum(widths)


@dataclass(frozen=True, slots=True)
class BatchCost:
    """`a_ms` per batch, `c0_ms` per request, `c1_ms_per_row` per beam row."""

    a_ms: float
    c0_ms: float
    c1_ms_per_row: float

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Self:
        """Raises UserError when a coefficient is missing, negative, or all are zero."""
        try:
            cost = cls(float(values["a_ms"]), float(values["c0_ms"]), float(values["c1_ms_per_row"]))
        except KeyError as error:
            raise UserError("cost model lacks a coefficient", field=str(error.args[0]), value=dict(values)) from None
        if min(cost.a_ms, cost.c0_ms, cost.c1_ms_per_row) < 0 or cost.request_ms(1) <= 0:
            raise UserError("cost model needs coefficients >= 0, not all zero", field="cost", value=dict(values))
        return cost

    def request_ms(self, rows: float) -> float:
        """Milliseconds one more request with `rows` beam rows adds to a batch."""
        return self.c0_ms + self.c1_ms_per_row * rows

    def batch_ms(self, rows: Sequence[float]) -> float:
        """Milliseconds of a batch, one entry of `rows` per request."""
        return self.a_ms + sum(self.request_ms(row) for row in rows)


def fit(shapes: Sequence[tuple[int, int]], times_ms: Sequence[float]) -> BatchCost:
    """Least squares of relative errors over (requests, rows a request), coefficients not below zero."""
    design = np.array([(1.0, size, size * rows) for size, rows in shapes])
    return BatchCost(*_non_negative(design / np.array(times_ms)[:, None]).tolist())


def _non_negative(design: NDArray[np.float64]) -> NDArray[np.float64]:
    """argmin |design x - 1| with x >= 0: three unknowns, so every subset of them is tried."""
    target = np.ones(len(design))
    best, least = np.zeros(design.shape[1]), np.inf
    for subset in range(1, 2 ** design.shape[1]):
        columns = [c for c in range(design.shape[1]) if subset >> c & 1]
        found = np.linalg.lstsq(design[:, columns], target, rcond=None)[0]
        loss = float(np.square(design[:, columns] @ found - target).sum())
        if (found >= 0).all() and loss < least * (1 - 1e-9):
            best, least = np.zeros(design.shape[1]), loss
            best[columns] = found
    return best


class CorrectedCost:
    """The cost model as the last batches proved it to be."""

    def __init__(self, base: BatchCost, rungs: int, gain: float = 0.3) -> None:
        self.base = base
        self.gain = gain
        self.factor = self._own_factor = 1.0
        self.off_cpu_share = 0.0
        self.deviation = 0.0
        self.pause_ms = 0.0
        self.scatter = Scatter()
        self._rung_factor = [1.0] * rungs
        self._recent: deque[float] = deque(maxlen=STALL_WINDOW)
        self._recent_pauses: deque[float] = deque(maxlen=STALL_WINDOW)

    def for_rungs(self, rungs: int) -> CorrectedCost:
        """What was learnt about all rungs alike, for another ladder."""
        cost = copy(self)
        cost._rung_factor = [1.0] * rungs
        return cost

    @property
    def steady_factor(self) -> float:
        """Measured over modelled time as of the last seconds: the own time's, over the share spent on a processor."""
        return _clip(self._own_factor / max(1.0 - self.off_cpu_share, LEAST_ON_CPU), FACTOR_BOUNDS)

    def request_ms(self, rows: float, rung: int, steady: bool = False) -> float:
        """Corrected cost of one more request at `rung`: as of the last batches, or `steady`, as of the last seconds."""
        factor = self.steady_factor if steady else self.factor
        return self.base.request_ms(rows) * factor * self._rung_factor[rung]

    def scaled_ms(self, rows: float, rung: int, ratio: float) -> tuple[float, float]:
        """A batch's fixed cost and one request's at `rung`, where batches take `ratio` of the modelled time."""
        return self.base.a_ms * ratio + self.pause_ms, self.base.request_ms(rows) * ratio * self._rung_factor[rung]

    def fixed_ms(self, steady: bool = False) -> float:
        """Corrected cost of a batch before its first request, with the pause between two batches."""
        return self.base.a_ms * (self.steady_factor if steady else self.factor) + self.pause_ms

    def safety(self) -> float:
        """Factor on a prediction that covers the usual scatter of batch times (two mean deviations)."""
        return 1.0 + min(2.0 * self.deviation, 1.0)

    def observe(self, uncorrected_ms: float, rung: int, measured_ms: float, off_cpu_ms: float = 0.0) -> None:
        """Learn from one batch: `uncorrected_ms` by the base model, `measured_ms` by the clock, `off_cpu_ms` of them
        ready to run and without a processor. Deadlines are kept by the clock, so the fast factor learns all of it."""
        ratio = _ratio(measured_ms, uncorrected_ms)
        self.scatter.observe(uncorrected_ms * self._rung_factor[rung], measured_ms)
        self._recent.append(ratio / self._rung_factor[rung])
        believed = median(self._recent)
        self.deviation += self.gain * (min(abs(believed / self.factor - 1.0), 1.0) - self.deviation)
        self.factor = _clip(self.factor + self.gain * (believed - self.factor), FACTOR_BOUNDS)
        self._observe_own(_ratio(measured_ms - off_cpu_ms, uncorrected_ms), rung)
        if measured_ms > 0:
            weight = 1.0 - math.exp(-measured_ms / OFF_CPU_MS)
            self.off_cpu_share += weight * (min(off_cpu_ms / measured_ms, 1.0) - self.off_cpu_share)

    def _observe_own(self, ratio: float, rung: int) -> None:
        own = min(ratio / self._rung_factor[rung], STALL_CLIP * self._own_factor)
        surprise = own / self._own_factor - 1.0
        self._own_factor = _clip(self._own_factor * (1.0 + STEADY_GAIN * surprise), FACTOR_BOUNDS)
        drift = RUNG_GAIN * surprise + RUNG_LEAK * (1.0 / self._rung_factor[rung] - 1.0)
        self._rung_factor[rung] = _clip(self._rung_factor[rung] * (1.0 + drift), RUNG_FACTOR_BOUNDS)

    def observe_pause(self, pause_ms: float) -> None:
        """Learn the time lost between two batches while requests waited."""
        self._recent_pauses.append(max(pause_ms, 0.0))
        self.pause_ms += self.gain * (median(self._recent_pauses) - self.pause_ms)


def _ratio(measured_ms: float, uncorrected_ms: float) -> float:
    return _clip(measured_ms / max(uncorrected_ms, 1e-6), FACTOR_BOUNDS)


def _clip(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])
