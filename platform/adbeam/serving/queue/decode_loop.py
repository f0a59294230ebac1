"""The scheduler and batcher, a thread: it waits for requests, has the controller plan a batch, and runs the engine.

The event loop never waits for it and it never waits for the event loop. All shared state sits behind one condition.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.controller import BatchPlan, Controller, ControllerSignals
from adbeam.beams.cost import BatchCost
from adbeam.beams.ladder import Ladder, Widths
from adbeam.serving.engine.loaded_model import Engine
from adbeam.serving.engine.request import Answer, Decoded, Refusal, Waiting
from adbeam.serving.processor.processor_signals import ProcessorSignals

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
"""How long a replica that stops waits for the batch under way."""
FAILURES_BEFORE_FAULT = 3
"""Batches that fail one after the other before the replica reports itself as broken."""


Deliver = Callable[[list[Waiting], list[Decoded] | Refusal], None]


class DecodeLoop:
    """The queue and the thread behind it, which calls `deliver(waiting, decoded or why not)`."""

    def __init__(
        self,
        engine: Engine,
        ladder: Ladder,
        cost: BatchCost,
        policy: BeamPolicyConfig,
        deliver: Deliver,
        stuck_seconds: float = 20.0,
    ) -> None:
        self._engine, self._deliver, self._stuck_ms = engine, deliver, stuck_seconds * 1000
        self._controller = Controller(ladder, cost, policy, clock_ms)
        self.processor = ProcessorSignals()
        self._queue: dict[Waiting, None] = {}
        self._changed = threading.Condition()
        self._busy_since_ms: float | None = None
        self._failures = 0
        self._closing = False
        self._pending: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Finish the running batch and stop; what still waits is given up."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=min(self._stuck_ms / 1000, CLOSE_SECONDS))
        if not self._thread.is_alive():
            self.processor.close()
        self._engine.close()

    def submit(self, waiting: Waiting) -> bool:
        """Queue a request; false when nobody decodes, or the queue is full of requests worth as much or more.

        A request worth more than the least valuable in a full queue takes its place."""
        with self._changed:
            self._controller.arrived()
            if not self._thread.is_alive():
                return False
            if len(self._queue) >= self._controller.config.max_queue:
                least = min(self._queue, key=lambda entry: entry.queued.value)
                if least.queued.value >= waiting.queued.value:
                    return False
                del self._queue[least]
                self._deliver([least], "queue_full")
            self._queue[waiting] = None
            self._changed.notify()
        return True

    def withdraw(self, waiting: Waiting) -> None:
        """Take a request out of the queue: answered otherwise, or cancelled by the client."""
        with self._changed:
            self._queue.pop(waiting, None)

    def arrived(self) -> None:
        """Count a request that is answered without the queue."""
        with self._changed:
            self._controller.arrived()

    def reconfigure(self, policy: BeamPolicyConfig, ladder: Ladder | None = None) -> None:
        """Take a new beam policy, and the ladder it makes, between two batches."""
        self._between_batches(lambda: self._controller.reconfigure(policy, ladder))

    def swap(self, engine: Engine, ladder: Ladder, cost: BatchCost, policy: BeamPolicyConfig) -> None:
        """Decode with another engine from the next batch on."""

        def apply() -> None:
            before, self._engine = self._engine, engine
            self._controller.reconfigure(policy, ladder, cost)
            if before is not engine:  # in a thread of its own: a child that hangs may take seconds to end
                threading.Thread(target=before.close, name="close engine", daemon=True).start()

        self._between_batches(apply)

    def _between_batches(self, change: Callable[[], None]) -> None:
        """Leave a change to the decode thread: a plan must be finished with the ladder it was made with."""
        with self._changed:
            self._pending.append(change)
            self._changed.notify()

    @property
    def ladder(self) -> Ladder:
        """The rungs in force."""
        return self._controller.ladder

    def signals(self) -> ControllerSignals:
        """What the controller knows."""
        with self._changed:
            return self._controller.signals()

    def full_width_capacity(self) -> float:
        """Requests a second that this replica sustains at full width."""
        with self._changed:
            return self._controller.full_width_capacity()

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def fault(self) -> str | None:
        """What is wrong with decoding, or None."""
        if not self._thread.is_alive():
            return "the decode thread is not running"
        busy_since_ms = self._busy_since_ms
        if busy_since_ms is not None and clock_ms() - busy_since_ms > self._stuck_ms:
            return f"a decode has been running for more than {self._stuck_ms / 1000:g} s"
        if self._failures >= FAILURES_BEFORE_FAULT:
            return f"the last {self._failures} decodes failed"
        return None

    def _run(self) -> None:
        self._engine.prepare_thread()
        try:
            self._decode_until_closed()
        finally:  # also where the thread dies: nobody else would answer them
            self._deliver(list(self._queue), "late")

    def _decode_until_closed(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing or self._pending)
                if self._closing:
                    return
                self._apply_pending()
                if not self._queue:
                    continue
                engine, full_widths = self._engine, self._full_widths()
                batch, late, plan = self._next()
            if late:
                self._deliver(late, "late")
            if batch and plan:
                self._decode(engine, batch, plan, full_widths)

    def _apply_pending(self) -> None:
        changes, self._pending = self._pending, []
        for change in changes:
            change()

    def _next(self) -> tuple[list[Waiting], list[Waiting], BatchPlan | None]:
        """Plan over the queue and take the planned requests out of it; where no plan can be made, all who wait are
        late, and the thread lives on for the next ones."""
        waiting = list(self._queue)
        try:
            plan = self._controller.plan([entry.queued for entry in waiting])
        except Exception:
            logger.exception("no batch could be planned for the %d requests that wait", len(waiting))
            self._failures += 1
            self._queue.clear()
            return [], waiting, None
        batch, late = [waiting[place] for place in plan.batch], [waiting[place] for place in plan.late]
        for entry in (*batch, *late):
            del self._queue[entry]
        return batch, late, plan

    def _decode(self, engine: Engine, batch: list[Waiting], plan: BatchPlan, full_widths: Widths) -> None:
        started_ms = self._busy_since_ms = clock_ms()
        self.processor.start(engine)
        answers: Sequence[Answer | None]
        try:
            answers = engine.answer([entry.query for entry in batch], plan.schedules)
            failed = False
        except Exception:
            logger.exception("a batch of %d could not be decoded", len(batch))
            failed = True
            answers = self._one_by_one(engine, batch, plan.schedules)
        finally:
            self._busy_since_ms = None
        self._failures = 0 if any(answer is not None for answer in answers) else self._failures + 1
        decode_ms = clock_ms() - started_ms
        off_cpu_ms = self.processor.finish(decode_ms)
        with self._changed:
            self._controller.finished(plan, None if failed else decode_ms, off_cpu_ms)
        given_up = [entry for entry, answer in zip(batch, answers, strict=True) if answer is None]
        if given_up:
            self._deliver(given_up, "late")
        found = [
            (entry, Decoded(answer, engine.version, rung, widths, full_widths, started_ms - entry.queued.arrived_ms,
                            decode_ms, off_cpu_ms))
            for entry, answer, rung, widths in zip(batch, answers, plan.rungs, plan.schedules, strict=True)
            if answer is not None
        ]  # fmt: skip
        if found:
            self._deliver([entry for entry, _ in found], [decoded for _, decoded in found])

    def _one_by_one(self, engine: Engine, batch: list[Waiting], schedules: Sequence[Widths]) -> list[Answer | None]:
        """The answers of a batch that failed, each request alone: one that cannot be decoded takes no other with it."""
        answers: list[Answer | None] = [None] * len(batch)
        for place, entry in enumerate(batch if len(batch) > 1 else ()):
            if entry.future.done():
                continue
            with suppress(Exception):
                answers[place] = engine.answer([entry.query], [schedules[place]])[0]
        return answers

    def _full_widths(self) -> Widths:
        ladder = self._controller.ladder
        return ladder.rungs[ladder.full].widths


def clock_ms() -> float:
    """Milliseconds of the monotonic clock, which asyncio's event loop also counts by."""
    return time.monotonic() * 1000.0
