"""The batch former: which of the waiting requests are decoded next. Pure logic; the caller owns clock and queue.

It takes what is queued and never holds a request back for company longer than `max_wait_ms`. A batch is filled in order
of deadline and closed where one more request would make the tightest deadline in it late. Schedules may differ inside a
batch (the engine decodes each at its own widths); requests of one schedule are laid side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from adbeam.decoding.search import Schedule

Payload = TypeVar("Payload")


@dataclass(frozen=True)
class Waiting(Generic[Payload]):
    """One queued request; times in milliseconds of one clock."""

    payload: Payload
    schedule: Schedule
    arrived_ms: float
    deadline_ms: float


@dataclass(frozen=True)
class Formed(Generic[Payload]):
    """What to do now: decode `batch` (may be empty), and look again in `wait_ms` at the latest."""

    batch: list[Waiting[Payload]]
    wait_ms: float


class BatchFormer:
    """Forms batches by a cost model `batch_ms(schedules)`."""

    def __init__(
        self,
        batch_ms: Callable[[Sequence[Schedule]], float],
        clock_ms: Callable[[], float],
        max_batch: int = 8,
        max_wait_ms: float = 0.0,
    ) -> None:
        """`max_wait_ms` is how long a lone request may be held for company; 0 decodes whatever is there."""
        self._batch_ms, self._clock_ms = batch_ms, clock_ms
        self.max_batch, self.max_wait_ms = max_batch, max_wait_ms

    def form(self, queue: Sequence[Waiting[Payload]]) -> Formed[Payload]:
        """The next batch out of `queue`, which the caller then takes it from."""
        now_ms = self._clock_ms()
        if not queue:
            return Formed([], self.max_wait_ms)
        by_deadline = sorted(queue, key=lambda request: (request.deadline_ms, request.arrived_ms))
        batch = [by_deadline[0]]
        for request in by_deadline[1 : self.max_batch]:
            if now_ms + self._batch_ms([r.schedule for r in (*batch, request)]) > batch[0].deadline_ms:
                break
            batch.append(request)
        wait_ms = self._patience_ms(batch, now_ms, closed=len(batch) < min(len(queue), self.max_batch))
        if wait_ms > 0:
            return Formed([], wait_ms)
        return Formed(sorted(batch, key=lambda request: request.schedule), 0.0)

    def _patience_ms(self, batch: list[Waiting[Payload]], now_ms: float, closed: bool) -> float:
        """How much longer this batch may wait for company: not when full, closed, waited enough, or nearly late."""
        if closed or len(batch) >= self.max_batch:
            return 0.0
        waited_ms = now_ms - min(request.arrived_ms for request in batch)
        slack_ms = batch[0].deadline_ms - now_ms - self._batch_ms([request.schedule for request in batch])
        return min(self.max_wait_ms - waited_ms, slack_ms)
