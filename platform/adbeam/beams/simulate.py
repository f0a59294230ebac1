"""A discrete-event simulation of replicas that run the real Controller: long traces and many replicas in seconds.

Requests go to the replica with the fewest outstanding ones. A replica decodes one batch at a time; its true service
time is the cost model times log-normal noise, slowed by the work each arrival brings to the same core, with rare
stalls. The controller starts from the cost model and sees only what a live one would. Where the policy answers late
requests early, a timer answers from the fallback what a running batch would finish too late, as in a replica.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from adbeam.beams.autoscale import AutoscaleState, desired_replicas
from adbeam.beams.backlog import QueuedRequest
from adbeam.beams.config import AutoscaleConfig, BeamPolicyConfig
from adbeam.beams.controller import BatchPlan, Controller
from adbeam.beams.cost import BatchCost
from adbeam.beams.ladder import Ladder
from adbeam.settings import Section

MODEL, FALLBACK, SHED = 0, 1, 2
LATE_CHECK_MS = 10.0


class SimulationConfig(Section):
    """The world around the controller."""

    full_widths: tuple[int, ...] = (32, 64, 128)
    a_ms: float = Field(1.5, ge=0, description="True cost of a batch.")
    c0_ms: float = Field(1.2, ge=0, description="True cost of a request beside its beams.")
    c1_ms_per_row: float = Field(0.038, ge=0, description="True cost of a beam row.")
    deadline_ms: float = Field(100.0, gt=0)
    reply_ms: float = Field(2.0, ge=0, description="Way of an answer back to the client.")
    noise: float = Field(0.08, ge=0, description="Sigma of the log-normal noise on a batch time.")
    stall_share: float = Field(0.001, ge=0, le=1, description="Batches that stall.")
    stall_ms: float = Field(30.0, ge=0)
    arrival_ms: float = Field(0.1, ge=0, description="CPU an arrival takes from a running batch.")
    fallback_quality: float = Field(0.3, ge=0, description="Quality of a fallback answer; full width is 1.")
    replicas: int = Field(1, ge=1, description="Replicas at the start.")
    start_up_seconds: float = Field(20.0, ge=0, description="From the decision for a replica to its first request.")
    decision_seconds: float = Field(1.0, gt=0, description="Between two decisions of the autoscaler.")
    ongoing_at_target: float | None = Field(
        None, gt=0, description="Drive the autoscaler by ongoing requests instead: how many mark target utilisation."
    )
    seed: int = 0

    @property
    def cost(self) -> BatchCost:
        """The true cost model."""
        return BatchCost(self.a_ms, self.c0_ms, self.c1_ms_per_row)


@dataclass(frozen=True)
class SimulationResult:
    """One entry per request N: answered_ms (nan if shed), source (MODEL | FALLBACK | SHED), mean beam width, quality;
    and the replicas serving over time as (time_ms, replicas)."""

    planned_ms_N: np.ndarray
    answered_ms_N: np.ndarray
    source_N: np.ndarray
    width_N: np.ndarray
    quality_N: np.ndarray
    value_N: np.ndarray
    deadline_ms: float
    rung_changes: int
    replicas: tuple[tuple[float, int], ...]

    @property
    def in_deadline_N(self) -> np.ndarray:
        """Whether each request got a model answer or a marked fallback in time."""
        with np.errstate(invalid="ignore"):
            in_time_N: np.ndarray = self.answered_ms_N - self.planned_ms_N <= self.deadline_ms
        in_time_N = in_time_N & (self.source_N != SHED)
        return in_time_N

    def figures(self) -> dict[str, float]:
        """Shares of all requests sent; `value` is value x quality answered in time over value sent."""
        in_time_N = self.in_deadline_N
        model_N = in_time_N & (self.source_N == MODEL)
        latency = (self.answered_ms_N - self.planned_ms_N)[self.source_N != SHED]
        served = float((self.value_N * self.quality_N)[in_time_N].sum())
        return {
            "requests": float(len(in_time_N)),
            "in_deadline": float(in_time_N.mean()),
            "model_in_deadline": float(model_N.mean()),
            "fallback": float((self.source_N == FALLBACK).mean()),
            "shed": float((self.source_N == SHED).mean()),
            "value": served / float(self.value_N.sum()),
            "model_value": float((self.value_N * self.quality_N)[model_N].sum()) / float(self.value_N.sum()),
            "mean_width": float(np.nanmean(self.width_N)) if np.isfinite(self.width_N).any() else math.nan,
            "p50_ms": float(np.percentile(latency, 50)) if len(latency) else math.nan,
            "p99_ms": float(np.percentile(latency, 99)) if len(latency) else math.nan,
            "rung_changes": float(self.rung_changes),
            "replica_seconds": self.replica_seconds(),
        }

    def replica_seconds(self) -> float:
        """Replicas x seconds until the last arrival, those that are starting not counted."""
        end = float(self.planned_ms_N[-1])
        times = [min(time, end) for time, _ in self.replicas] + [end]
        return sum(n * (b - a) for (_, n), a, b in zip(self.replicas, times[:-1], times[1:], strict=True)) / 1000.0


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
            self._run_until(self._planned[request])
            self.now_ms = float(self._planned[request])
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
                self._end_batch(replica) if kind == "end" else self._check_late(replica)

    def _push(self, time_ms: float, kind: str, replica: _Replica | None) -> None:
        self._sequence += 1
        batch = replica.batches if replica else 0
        heapq.heappush(self._events, (time_ms, self._sequence, kind, replica, batch))

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
        else:
            replica.slowed_ms += self.config.arrival_ms

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
            self._push(self.now_ms + self._service_ms(plan), "end", replica)
            if self.policy.answer_late_early:
                self._push(self.now_ms + LATE_CHECK_MS, "check", replica)

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
        expiry_ms = self._queued[request].deadline_ms - self.policy.margin_ms
        if self.policy.answer_late_early and self.now_ms > expiry_ms:
            self._answer(request, FALLBACK, self.config.fallback_quality)
            self._answered[request] = expiry_ms + self.config.reply_ms
            return
        self._answer(request, MODEL, self.ladder.rungs[rung].quality)
        self._width[request] = self.ladder.rungs[rung].mean_width

    def _answer(self, request: int, source: int, quality: float) -> None:
        self._answered[request] = self.now_ms + self.config.reply_ms
        self._source[request], self._quality[request] = source, quality

    def _check_late(self, replica: _Replica) -> None:
        if replica.plan is not None and replica.queue:
            self._take(replica, replica.controller.late(self._snapshot(replica)))
        if replica.plan is not None:
            self._push(self.now_ms + LATE_CHECK_MS, "check", replica)

    def _end_batch(self, replica: _Replica) -> None:
        plan, slowed_ms = replica.plan, replica.slowed_ms
        assert plan is not None
        if slowed_ms > 0.01:
            replica.slowed_ms = 0.0
            self._push(self.now_ms + slowed_ms, "end", replica)
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
