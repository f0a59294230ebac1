"""The queue as arithmetic: when each waiting request would be answered, and which ones cannot make it.

Q requests are sorted; a batch answers all its members when it ends. Times are milliseconds from now.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """A waiting request: when it came, by when it must be answered (same clock), what an answer is worth, and between
    how many beams of the last level it wants to be searched."""

    arrived_ms: float
    deadline_ms: float
    value: float = 1.0
    width_max: int | None = None
    width_min: int | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a replica works at one rung: `fixed_ms` per batch, `request_ms` per request, `batch` at most."""

    fixed_ms: float
    request_ms: float
    batch: int

    def batch_ms(self, size: int) -> float:
        """Time of a batch of `size`."""
        return self.fixed_ms + size * self.request_ms

    def busy_ms(self) -> float:
        """Time per request in full batches."""
        return self.fixed_ms / self.batch + self.request_ms

    def slower(self, factor: float) -> Pace:
        """The same pace with every time multiplied by `factor`."""
        return Pace(self.fixed_ms * factor, self.request_ms * factor, self.batch)

    def fitting(self, limit_ms: float) -> int:
        """Most requests (at least 1, at most `batch`) whose batch ends within `limit_ms`."""
        if self.request_ms <= 0:
            return self.batch
        return max(1, min(self.batch, int((limit_ms - self.fixed_ms) / self.request_ms + 1e-9)))


@dataclass(frozen=True, slots=True)
class Backlog:
    """The queue in service order. `order_Q` are positions in the snapshot, `slack_ms_Q` the time left to decode in."""

    order_Q: np.ndarray
    slack_ms_Q: np.ndarray
    value_Q: np.ndarray
    budget_ms: float

    @classmethod
    def of(cls, queue: Sequence[QueuedRequest], now_ms: float, margin_ms: float, by_deadline: bool) -> Self:
        """Sort `queue` by deadline or by arrival; `budget_ms` is the median time its requests were granted (0:
        empty)."""
        deadline_Q = np.array([request.deadline_ms for request in queue], dtype=float)
        arrived_Q = np.array([request.arrived_ms for request in queue], dtype=float)
        order_Q = np.argsort(deadline_Q if by_deadline else arrived_Q, kind="stable")
        value_Q = np.array([request.value for request in queue], dtype=float)
        budget = median((deadline_Q - arrived_Q).tolist()) if len(queue) else 0.0
        return cls(order_Q, deadline_Q[order_Q] - now_ms - margin_ms, value_Q[order_Q], float(budget))

    def __len__(self) -> int:
        return len(self.order_Q)

    def drains(self, pace: Pace, share: float = 1.0) -> bool:
        """Whether every request is answered within `share` of the time it has left."""
        count = len(self)
        if count == 0:
            return True
        first = self.first_batch(pace)
        if first == count:  # one batch: the usual case, worth not building arrays for
            return pace.batch_ms(count) <= share * float(self.slack_ms_Q.min())
        return bool(np.all(finish_ms(count, pace, first) <= share * self.slack_ms_Q))

    def first_batch(self, pace: Pace) -> int:
        """Size of the next batch: smaller than usual where the most urgent request needs it."""
        return min(len(self), pace.fitting(float(self.slack_ms_Q[0]))) if self.slack_ms_Q[0] > 0 else pace.batch

    def without(self, dropped: set[int]) -> Backlog:
        """The backlog less the requests at the given places of the service order."""
        kept_Q = np.array([place not in dropped for place in range(len(self))], dtype=bool)
        return self.only(kept_Q)

    def only(self, places: slice | np.ndarray) -> Backlog:
        """The backlog of the requests at the given places, a slice or one flag each."""
        return Backlog(self.order_Q[places], self.slack_ms_Q[places], self.value_Q[places], self.budget_ms)

    def surely_late(self, pace: Pace) -> set[int]:
        """Places of requests too late even if decoded alone."""
        return self._with_less_than(pace.batch_ms(1))

    def _with_less_than(self, slack_ms: float) -> set[int]:
        late_Q = self.slack_ms_Q < slack_ms
        return set(np.flatnonzero(late_Q).tolist()) if late_Q.any() else set()

    def _whole_batch_ms(self, pace: Pace) -> float:
        """Time of the largest batch that the queue can fill with requests that have so long; of one where none has."""
        ms_n = pace.fixed_ms + pace.request_ms * np.arange(1, min(pace.batch, len(self)) + 1)
        patient_n = len(self) - np.searchsorted(self.slack_ms_Q, ms_n)
        filled = np.flatnonzero(patient_n >= np.arange(1, len(ms_n) + 1))
        return float(ms_n[filled[-1] if len(filled) else 0])

    def unservable(self, pace: Pace) -> set[int]:
        """Places to give up so that all others are in time: first those too urgent for a whole batch, then the least
        valuable ones (Moore and Hodgson's rule for jobs of equal length, which keeps the largest total value). Needs
        the order by deadline.

        Small batches for urgent requests cost throughput, which makes the next ones urgent: under overload a replica
        would never leave them again.
        """
        dropped = self._with_less_than(self._whole_batch_ms(pace))
        places = [place for place in range(len(self)) if place not in dropped]
        if not places:
            return dropped
        first = min(pace.fitting(float(self.slack_ms_Q[places[0]])), len(places))
        ends = finish_ms(len(places), pace, first)
        kept: list[tuple[float, int]] = []
        for place in places:
            heapq.heappush(kept, (float(self.value_Q[place]), -place))
            if ends[len(kept) - 1] > self.slack_ms_Q[place]:
                dropped.add(-heapq.heappop(kept)[1])
        return dropped


def finish_ms(count: int, pace: Pace, first: int) -> np.ndarray:
    """When each of `count` requests in service order is answered: a batch of `first`, then batches of `pace.batch`."""
    first = max(1, min(first, count))
    whole, rest = divmod(count - first, pace.batch)
    sizes = [first, *[pace.batch] * whole, *([rest] if rest else [])]
    return np.repeat(list(accumulate(pace.batch_ms(size) for size in sizes)), sizes)
