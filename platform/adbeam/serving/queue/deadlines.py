"""The decode thread as the event loop uses it: a request waits for its answer, until it would be late or is cancelled.

A timer on the event loop ends the wait. What the loop is late itself is taken off the time that a decode gets.
"""

from __future__ import annotations

import asyncio
import time

from adbeam.beams.backlog import QueuedRequest
from adbeam.beams.config import BeamPolicyConfig
from adbeam.recorder import Recorder
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Decoded, Query, Refusal, Waiting
from adbeam.serving.queue.decode_loop import DecodeLoop
from adbeam.serving.queue.event_loop_lag import ReplyLag

MIN_VALUE = 1e-9
"""A request said to be worth nothing is still one to answer: shares of compute go by value."""
LAG_SHARE = 0.25
"""Most of a deadline that is kept back because the event loop is late."""


class AwaitedDecoding:
    """Decodes for one event loop; all methods but `_delivered` run on it."""

    def __init__(self, model: LoadedModel, policy: BeamPolicyConfig, stuck_seconds: float, metrics: Recorder) -> None:
        self._policy, self._metrics = policy, metrics
        self._lag = ReplyLag()
        self._loop: asyncio.AbstractEventLoop | None = None
        ladder = model.ladder(policy)
        self.decoding = DecodeLoop(model.engine, ladder, model.facts.cost, policy, self._delivered, stuck_seconds)

    @property
    def started(self) -> bool:
        """Whether there is an event loop to answer to."""
        return self._loop is not None

    def start(self) -> None:
        """Start decoding for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.decoding.start()

    def take_policy(self, policy: BeamPolicyConfig, model: LoadedModel) -> None:
        """Put another beam policy in force, with the ladder that it makes for the model."""
        self._policy = policy
        self.decoding.reconfigure(policy, model.ladder(policy))

    def take_model(self, model: LoadedModel) -> None:
        """Put another model in force: requests decoded from now on see it."""
        self.decoding.swap(model.engine, model.ladder(self._policy), model.facts.cost, self._policy)

    async def decoded(
        self, query: Query, value: float | None, deadline_ms: float, arrived_s: float
    ) -> Decoded | Refusal:
        """The decoded answer, or why there is none in time: "late" or "queue_full"."""
        assert self._loop is not None
        arrived_ms = arrived_s * 1000.0
        granted_ms = deadline_ms - self._lag.ms(LAG_SHARE * deadline_ms)
        worth = 1.0 if value is None else max(value, MIN_VALUE)
        queued = QueuedRequest(arrived_ms, arrived_ms + granted_ms, worth, query.width_max, query.width_min)
        waiting = Waiting(query, queued, self._loop.create_future())
        if not self.decoding.submit(waiting):
            return "queue_full"
        timer = None
        if self._policy.answer_late_early:
            expires_s = arrived_s + (granted_ms - self._policy.margin_ms) / 1000.0
            timer = self._loop.call_at(expires_s, self._expire, waiting, expires_s)
        try:
            outcome = await waiting.future
        except asyncio.CancelledError:
            self.decoding.withdraw(waiting)
            self._metrics.add("adbeam_cancelled")
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return outcome

    def _expire(self, waiting: Waiting, due_s: float) -> None:
        self._lag.observe(due_s)
        self.decoding.withdraw(waiting)
        if not waiting.future.done():
            waiting.future.set_result("late")

    def _delivered(self, batch: list[Waiting], decoded: list[Decoded] | Refusal) -> None:
        """Called in the decode thread: one wake-up of the event loop a batch."""
        assert self._loop is not None
        if self._loop.is_closed():
            return
        outcomes: list[Decoded | Refusal] = [decoded] * len(batch) if isinstance(decoded, str) else list(decoded)
        self._loop.call_soon_threadsafe(self._resolve, batch, outcomes, time.monotonic())
        if decoded and not isinstance(decoded, str):
            self._metrics.observe("adbeam_decode_seconds", decoded[0].decode_ms / 1000)
            self._metrics.add("adbeam_decode_off_cpu_seconds", decoded[0].off_cpu_ms / 1000)
            self._metrics.observe("adbeam_batch_size", len(decoded))
            for entry in decoded:
                self._metrics.observe("adbeam_queue_delay_seconds", entry.queue_ms / 1000)
                self._metrics.observe("adbeam_beam_width", entry.widths[-1])

    def _resolve(self, batch: list[Waiting], outcomes: list[Decoded | Refusal], posted_s: float) -> None:
        self._lag.observe(posted_s)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(outcome)
