"""Beam width by value: who keeps it when it must be cut, the compute of a batch given out by expected value.

A price on compute (as DCAF, arXiv 2006.09684): each request takes the rung where value x quality - price x cost is
largest, and the price is the lowest at which the batch costs no more than with one rung for all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adbeam.beams.ladder import Ladder

BISECTIONS = 24


def split_by_value(values_B: Sequence[float], ladder: Ladder, rung: int) -> tuple[int, ...]:
    """A rung for each request, together no dearer than all at `rung`; all at `rung` when values do not differ."""
    value_B = np.asarray(values_B, dtype=float)
    if rung <= ladder.full or value_B.max() <= value_B.min():
        return (rung,) * len(value_B)
    rungs = ladder.rungs[ladder.full :]
    cost_R = np.array([r.cost_ms for r in rungs])
    quality_R = np.array([r.quality for r in rungs])
    budget = len(value_B) * ladder.rungs[rung].cost_ms
    low, high = 0.0, float(value_B.max()) * float(quality_R.max()) / max(float(cost_R.min()), 1e-9) * len(rungs) + 1.0
    choice_B = np.full(len(value_B), len(rungs) - 1)
    for _ in range(BISECTIONS):
        price = (low + high) / 2
        taken_B = np.argmax(value_B[:, None] * quality_R - price * cost_R, axis=1)
        if cost_R[taken_B].sum() <= budget + 1e-9:
            high, choice_B = price, taken_B
        else:
            low = price
    return tuple(int(place) + ladder.full for place in choice_B)
