"""A discrete-event simulation of replicas that run the real Controller: long traces and many replicas in seconds.

Requests go to the replica with the fewest outstanding ones. A replica decodes one batch at a time; its true service
time is the cost model times log-normal noise, slowed by the work each arrival brings to the same core, by a neighbour,
and by rare stalls. The controller starts from the cost model and sees only what a live one would. Where the policy
answers late requests early, a timer answers from the fallback what still waits when its time is over, as in a replica.
While the whole process stands still nothing happens in it: arrivals wait, timers fire at its end.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from adbeam.beams.autoscale import AutoscaleState, desired_replicas
from adbeam.beams.backlog import QueuedRequest
from adbeam.beams.config import AutoscaleConfig, BeamPolicyConfig
from adbeam.beams.controller import BatchPlan, Controller
from adbeam.beams.ladder import Ladder
from adbeam.beams.simulation.result import FALLBACK, MODEL, SHED, SimulationResult
from adbeam.beams.simulation.slow_downs import Speed
from adbeam.beams.simulation.world import SimulationConfig


@dataclass
class _Replica:
    controller: Controller
    ready: bool = True
    leaving: bool = False
    queue: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    plan: BatchPlan | None = None
    started_ms: float = 0.0
    slowed_ms: float = 0.0
    batches: int = 0

    @property
    def outstanding(self) -> int:
        return len(self.queue) + len(self.running)


class Simulation:
    """Runs one trace through one policy."""

    def __init__(
        self,
        config: SimulationConfig,
        policy: BeamPolicyConfig,
        ladder: Ladder | None = None,
        autoscale: AutoscaleConfig | None = None,
    ) -> None:
        self.config, self.policy, self.autoscale = config, policy, autoscale
        self.ladder = ladder or Ladder.build(config.full_widths, config.cost, config=policy.ladder)
        self.now_ms = 0.0
        self._random = np.random.default_rng(config.seed)
        self._speed = Speed(config.slow_down, config.seed)
        self._events: list[tuple[float, int, str, _Replica | None, int]] = []
        self._sequence = 0
        self._replicas = [self._new_replica() for _ in range(config.replicas)]
        self._scale = AutoscaleState(config.replicas)
        self._timeline = [(0.0, config.replicas)]
        self._retired_changes = 0

    def run(self, planned_ms_N: np.ndarray, value_N: np.ndarray | None = None) -> SimulationResult:
        """Send a request at each of `planned_ms_N` (rising); `value_N` defaults to ones."""
        count = len(planned_ms_N)
        self._planned = np.asarray(planned_ms_N, dtype=float)
        self._value = np.ones(count) if value_N is None else np.asarray(value_N, dtype=float)
        self._queued = [
            QueuedRequest(planned_ms, planned_ms + self.config.deadline_ms, value)
            for planned_ms, value in zip(self._planned.tolist(), self._value.tolist(), strict=True)
        ]
        self._answered, self._width = np.full(count, np.nan), np.full(count, np.nan)
        self._source, self._quality = np.full(count, SHED), np.zeros(count)
        if self.autoscale is not None:
            self._push(1000.0 * self.config.decision_seconds, "decide", None)
        for request in range(count):
            seen_ms = self._speed.awake_ms(float(self._planned[request]))
            self._run_until(seen_ms)
            self.now_ms = seen_ms
            self._arrive(request)
        self.autoscale = None
        self._run_until(math.inf)
        changes = self._retired_changes + sum(r.controller.signals().rung_changes for r in self._replicas)
        return SimulationResult(
            self._planned, self._answered, self._source, self._width, self._quality, self._value,
            self.config.deadline_ms, changes, tuple(self._timeline),
        )  # fmt: skip

    def _run_until(self, until_ms: float) -> None:
        while self._events and self._events[0][0] <= until_ms:
            self.now_ms, _, kind, replica, batch = heapq.heappop(self._events)
            if kind == "decide":
                self._decide()
            elif kind == "ready":
                assert replica is not None
                replica.ready = True
                self._note_replicas()
            elif replica is not None and batch == replica.batches:
                self._end_batch(replica) if kind == "end" else self._expire(replica)

    def _push(self, time_ms: float, kind: str, replica: _Replica | None) -> None:
        self._sequence += 1
        batch = replica.batches if replica else 0
        heapq.heappush(self._events, (self._speed.awake_ms(time_ms), self._sequence, kind, replica, batch))

    def _arrive(self, request: int) -> None:
        serving = [replica for replica in self._replicas if replica.ready and not replica.leaving]
        turn = request % len(serving)  # equally busy replicas take turns
        replica = min(serving[turn:] + serving[:turn], key=lambda replica: replica.outstanding)
        replica.controller.arrived()
        if len(replica.queue) >= self.policy.max_queue:
            return
        replica.queue.append(request)
        if replica.plan is None:
            self._start_batch(replica)
            return
        replica.slowed_ms += self.config.arrival_ms
        if len(replica.queue) == 1:
            self._set_timer(replica)

    def _snapshot(self, replica: _Replica) -> list[QueuedRequest]:
        return [self._queued[request] for request in replica.queue]

    def _start_batch(self, replica: _Replica) -> None:
        while replica.queue and replica.plan is None:
            plan = replica.controller.plan(self._snapshot(replica))
            replica.running = [replica.queue[position] for position in plan.batch]
            self._take(replica, plan.late, plan.batch)
            if not plan.batch:
                continue
            replica.plan, replica.started_ms, replica.slowed_ms = plan, self.now_ms, 0.0
            replica.batches += 1
            self._push(self._speed.end_ms(self.now_ms, self._service_ms(plan)), "end", replica)
            self._set_timer(replica)

    def _service_ms(self, plan: BatchPlan) -> float:
        rows = [self.ladder.rungs[rung].rows for rung in plan.rungs]
        noise = math.exp(self._random.normal(0.0, self.config.noise))
        stall = self.config.stall_ms if self._random.random() < self.config.stall_share else 0.0
        return self.config.cost.batch_ms(rows) * noise + stall

    def _take(self, replica: _Replica, late: tuple[int, ...], batch: tuple[int, ...] = ()) -> None:
        for position in late:
            self._answer(replica.queue[position], FALLBACK, self.config.fallback_quality)
        gone = {*late, *batch}
        replica.queue = [request for position, request in enumerate(replica.queue) if position not in gone]

    def _deliver(self, request: int, rung: int) -> None:
        """Answer with what was decoded, unless the replica's timer had to answer in its place."""
        expiry_ms = self._expiry_ms(request)
        if self.policy.answer_late_early and self.now_ms > expiry_ms:
            self._answer(request, FALLBACK, self.config.fallback_quality)
            self._answered[request] = self._speed.awake_ms(expiry_ms) + self.config.reply_ms
            return
        self._answer(request, MODEL, self.ladder.rungs[rung].quality)
        self._width[request] = self.ladder.rungs[rung].mean_width

    def _answer(self, request: int, source: int, quality: float) -> None:
        self._answered[request] = self.now_ms + self.config.reply_ms
        self._source[request], self._quality[request] = source, quality

    def _expiry_ms(self, request: int) -> float:
        return self._queued[request].deadline_ms - self.policy.margin_ms

    def _set_timer(self, replica: _Replica) -> None:
        """For the first request of the queue: they came in order and have equally long."""
        if self.policy.answer_late_early and replica.queue:
            self._push(max(self._expiry_ms(replica.queue[0]), self.now_ms), "expire", replica)

    def _expire(self, replica: _Replica) -> None:
        expired = [place for place, request in enumerate(replica.queue) if self._expiry_ms(request) <= self.now_ms]
        self._take(replica, tuple(expired))
        self._set_timer(replica)

    def _end_batch(self, replica: _Replica) -> None:
        plan, slowed_ms = replica.plan, replica.slowed_ms
        assert plan is not None
        if slowed_ms > 0.01:
            replica.slowed_ms = 0.0
            self._push(self._speed.end_ms(self.now_ms, slowed_ms), "end", replica)
            return
        for request, rung in zip(replica.running, plan.rungs, strict=True):
            self._deliver(request, rung)
        replica.plan, replica.running = None, []
        replica.controller.finished(plan, self.now_ms - replica.started_ms)
        self._start_batch(replica)
        if replica.leaving and replica.plan is None:
            self._retire(replica)

    def _new_replica(self) -> _Replica:
        return _Replica(Controller(self.ladder, self.config.cost, self.policy, lambda: self.now_ms))

    def _decide(self) -> None:
        if self.autoscale is None:
            return
        staying = [replica for replica in self._replicas if not replica.leaving]
        demand = self._demand(self.autoscale, [replica for replica in staying if replica.ready])
        wanted, self._scale = desired_replicas(demand, self.autoscale, self._scale, self.now_ms / 1000.0)
        for _ in range(wanted - len(staying)):
            replica = self._new_replica()
            replica.ready = False
            self._replicas.append(replica)
            self._push(self.now_ms + 1000.0 * self.config.start_up_seconds, "ready", replica)
        for replica in staying[wanted:] if wanted < len(staying) else []:
            replica.leaving = True
            if replica.plan is None:
                self._retire(replica)
        self._note_replicas()
        self._push(self.now_ms + 1000.0 * self.config.decision_seconds, "decide", None)

    def _demand(self, autoscale: AutoscaleConfig, serving: list[_Replica]) -> float:
        """Demand at full width, or what ongoing requests, as Serve's own policy counts them, make of it."""
        if self.config.ongoing_at_target is None:
            return sum(replica.controller.signals().demand_full_width for replica in serving)
        ongoing = sum(replica.outstanding for replica in serving)
        return ongoing / self.config.ongoing_at_target * autoscale.target_utilisation

    def _retire(self, replica: _Replica) -> None:
        self._retired_changes += replica.controller.signals().rung_changes
        self._replicas.remove(replica)

    def _note_replicas(self) -> None:
        serving = sum(replica.ready and not replica.leaving for replica in self._replicas)
        if serving != self._timeline[-1][1]:
            self._timeline.append((self.now_ms, serving))
