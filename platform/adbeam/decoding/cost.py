"""What a batch costs on this machine: three numbers fitted to timed decodes, with the error of the fit.

cost_ms = a + sum over requests (c0 + c1 * rows), rows = beams entering the model over all steps = 1 + sum of the widths
(the last width once more for the eCPM step, the last level's code needing no step of its own).

`CostModel.to_dict` is plain data, so that a controller can plan with it and know nothing of torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from adbeam.decoding.decoder import Decoder
from adbeam.decoding.search import Schedule
from adbeam.features.batch import ContextBatch
from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig


@dataclass(frozen=True)
class CostModel:
    """Milliseconds of a batch."""

    a_ms: float
    """Per batch."""
    c0_ms: float
    """Per request."""
    c1_ms_per_row: float
    """Per beam that enters the model."""
    error: float
    """Median of |fitted / measured - 1| over the timed decodes."""
    worst_error: float

    def batch_ms(self, schedules: Sequence[Schedule]) -> float:
        """Expected milliseconds of a batch with these schedules, one a request."""
        return self.a_ms + sum(self.c0_ms + self.c1_ms_per_row * rows(widths) for widths in schedules)

    def cost_ms(self, batch: int, schedule: Schedule) -> float:
        """Expected milliseconds of `batch` requests of one schedule."""
        return self.batch_ms([schedule] * batch)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Self:
        """The model that `to_dict` wrote."""
        return cls(**values)


def rows(schedule: Schedule) -> int:
    """Beams entering the model over all steps."""
    return 1 + sum(schedule)


def calibrate(
    decoder: Decoder,
    schedules: Sequence[Schedule],
    seconds: float = 1.5,
    batches: Sequence[int] = (1, 2, 4, 8),
    clock: Callable[[], float] = time.perf_counter,
) -> CostModel:
    """Time decodes of several schedules and batch sizes for about `seconds` and fit the cost to them.

    Cheap cells come first and every cell of the grid that fits the time is measured, in turn, so that a drift of the
    machine's speed falls on all alike. One decode of the smallest cell is always measured.
    """
    cells = sorted({(size, tuple(widths)) for size in batches for widths in schedules}, key=lambda c: c[0] * rows(c[1]))
    context = full_context(decoder.config, max(batches))
    taken: dict[tuple[int, Schedule], list[float]] = {}
    end, round_ = clock() + seconds, 0
    decoder.decode(first_rows(context, cells[0][0]), [cells[0][1]] * cells[0][0])
    while not taken or (clock() < end and round_ < 50):
        for size, widths in cells:
            if taken and clock() + min(taken.get((size, widths), [0.0])) > end:
                break
            started = clock()
            decoder.decode(first_rows(context, size), [widths] * size)
            taken.setdefault((size, widths), []).append(clock() - started)
        round_ += 1
    shapes = [(size, rows(widths)) for size, widths in taken]
    return fit(shapes, [1000 * median(times) for times in taken.values()])


def fit(shapes: Sequence[tuple[int, int]], times_ms: Sequence[float]) -> CostModel:
    """Least squares of relative errors over (requests, rows a request), coefficients not below zero."""
    design = np.array([(1.0, size, size * rows_) for size, rows_ in shapes])
    time_ms = np.array(times_ms)
    best = _non_negative(design / time_ms[:, None])
    error = np.abs(design @ best / time_ms - 1)
    a_ms, c0_ms, c1_ms = best.tolist()
    return CostModel(a_ms, c0_ms, c1_ms, float(np.median(error)), float(error.max()))


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


def full_context(config: ModelConfig, size: int, seed: int = 0) -> ContextBatch:
    """Contexts of full length with random features: the most expensive ones."""
    generator, spec = torch.Generator().manual_seed(seed), FeatureSpec.of(config)

    def draw(sizes: Sequence[int], *shape: int) -> torch.Tensor:
        return torch.stack([torch.randint(0, n, (size, *shape), generator=generator) for n in sizes], dim=-1)

    length = config.context_length
    return ContextBatch(
        static_BF=draw(list(spec.static.values())),
        code_BST=draw(config.codebooks, length),
        feature_BSC=draw(list(spec.token.values()), length),
        mask_BS=torch.ones(size, length, dtype=torch.bool),
        trend_code_BNT=draw(config.codebooks, config.trending_length) if spec.trend else None,
        trend_feature_BNC=draw(list(spec.trend.values()), config.trending_length) if spec.trend else None,
    )


def first_rows(context: ContextBatch, count: int) -> ContextBatch:
    """The first `count` contexts."""
    return context.rows(torch.arange(count, device=context.static_BF.device))
