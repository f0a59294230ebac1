"""Whom to decode next where nobody knows how long the batch will take.

Every run of neighbours in the service order is a batch that could be formed. It is worth what its requests are worth,
each times how often batches of late would have ended before its deadline, a millisecond of the decoder's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from adbeam.beams.backlog import Backlog

NEARLY_BEST_IN_CALM, NEARLY_BEST_IN_STORM = 0.9, 0.97
"""Of all batches worth at least this share of the best, the one with the most urgent requests is taken. In a calm who
can wait waits, for the decoder will catch up; in a storm it will not, and its time counts for more."""
LARGER = 1.2
"""Sizes to try rise by so much, once that is a whole request."""


def next_batch(
    backlog: Backlog, fixed_ms: float, request_ms: float, most: int, ratios_R: Sequence[float], storm: bool
) -> slice:
    """The places of the batch, at most `most`, where a batch of n takes `fixed_ms + n * request_ms` times one of
    `ratios_R` (rising). `backlog` is not empty."""
    count = len(backlog)
    size_N = np.array(_sizes(min(most, count)))
    modelled_ms_N = fixed_ms + request_ms * size_N
    odds_NQ = np.searchsorted(ratios_R, backlog.slack_ms_Q / modelled_ms_N[:, None], side="right")
    sums_NQ = np.zeros((len(size_N), count + 1))
    np.cumsum(odds_NQ * backlog.value_Q, axis=1, out=sums_NQ[:, 1:])
    end_NQ = np.arange(count) + size_N[:, None]
    ends_NQ = sums_NQ[np.arange(len(size_N))[:, None], np.minimum(end_NQ, count)]
    worth_NQ = np.where(end_NQ <= count, ends_NQ - sums_NQ[:, :-1], 0.0) / modelled_ms_N[:, None]
    best_Q = worth_NQ.max(axis=0)
    nearly_best = NEARLY_BEST_IN_STORM if storm else NEARLY_BEST_IN_CALM
    first = int(np.argmax(best_Q >= nearly_best * best_Q.max()))
    return slice(first, first + int(size_N[np.argmax(worth_NQ[:, first])]))


@cache
def _sizes(most: int) -> tuple[int, ...]:
    sizes = [1]
    while sizes[-1] < most:
        sizes.append(min(max(sizes[-1] + 1, int(sizes[-1] * LARGER)), most))
    return tuple(sizes)
