"""Whom to decode next where nobody knows how long the batch will take.

Every run of neighbours in the service order is a batch that could be formed. It is worth what its requests are worth,
each times how often batches of late would have ended before its deadline, a millisecond of the decoder's time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adbeam.beams.backlog import Backlog

NEARLY_BEST = 0.95
"""Of all batches worth at least this share of the best, the one with the most urgent requests is taken: who can wait
waits."""


def next_batch(backlog: Backlog, fixed_ms: float, request_ms: float, most: int, ratios_R: Sequence[float]) -> slice:
    """The places of the batch, at most `most`, where a batch of n takes `fixed_ms + n * request_ms` times one of
    `ratios_R` (rising). `backlog` is not empty."""
    count = len(backlog)
    size_N = np.arange(1, min(most, count) + 1)
    modelled_ms_N = fixed_ms + request_ms * size_N
    odds_NQ = np.searchsorted(ratios_R, backlog.slack_ms_Q / modelled_ms_N[:, None], side="right") / len(ratios_R)
    sums_NQ = np.pad(np.cumsum(odds_NQ * backlog.value_Q, axis=1), ((0, 0), (1, 0)))
    end_NQ = np.arange(count) + size_N[:, None]
    worth_NQ = np.take_along_axis(sums_NQ, np.minimum(end_NQ, count), axis=1) - sums_NQ[:, :count]
    worth_NQ = np.where(end_NQ <= count, worth_NQ, 0.0) / modelled_ms_N[:, None]
    best_Q = worth_NQ.max(axis=0)
    first = int(np.argmax(best_Q >= NEARLY_BEST * best_Q.max()))
    return slice(first, first + int(size_N[np.argmax(worth_NQ[:, first])]))
