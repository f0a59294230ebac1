"""The dynamic beam controller of one replica: a pure state machine, one `plan` per batch.

The replica reports arrivals, asks for a plan whenever the decoder is free and something waits, and reports how long the
batch took. Nothing here sleeps, reads a clock of its own, or knows what a decoder is, so the simulator runs the same
code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from adbeam.beams.admission import next_batch
from adbeam.beams.arrival_rate import ArrivalRate
from adbeam.beams.backlog import Backlog, Pace, QueuedRequest
from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.cost import BatchCost, CorrectedCost
from adbeam.beams.ladder import Ladder, Widths
from adbeam.beams.paces import Paces
from adbeam.beams.policies import Load, build_policy
from adbeam.beams.scatter import CAUTIOUS_SHARE, QUICK_SHARE, TYPICAL_SHARE
from adbeam.beams.value_split import split_by_value
from adbeam.beams.width_bounds import are_bounded, bounded_rungs, time_for_batch_ms

PROBE_MS = 200.0
"""How long everything may be given up before one request is decoded all the same."""
PROBE_BESIDE_NEIGHBOUR_MS = 40.0
"""The same where batch times scatter: the storm that gave everything up is soon over."""

UNDER_PRESSURE = 2.0
"""A batch may take so many times `batch_share` where times scatter and not all can be saved: fewer fixed costs."""
STILL_MS = 20.0
"""A request that waited so long beside an idle decoder says that the whole process stood still."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What to do now. Positions count in the queue snapshot the plan was made from.

    `batch`: requests to decode together, with `rungs` and `schedules` one each; empty if all were late.
    `late`: requests to answer at once from the cache or the fallback. `rung` is the common rung of the batch,
    `uncorrected_ms` the batch by the base cost model, `predicted_ms` by the corrected one.
    """

    batch: tuple[int, ...]
    rungs: tuple[int, ...]
    schedules: tuple[Widths, ...]
    late: tuple[int, ...]
    rung: int
    uncorrected_ms: float
    predicted_ms: float


@dataclass(frozen=True, slots=True)
class ControllerSignals:
    """What the controller knows, for metrics and the autoscaler. `demand_full_width` is the replicas this replica's
    arrivals would keep busy at full width, whatever the beams are now."""

    policy: str
    rung: int
    widths: Widths
    full_widths: Widths
    arrival_rate_per_second: float
    demand_full_width: float
    utilisation: float
    cost_factor: float
    rung_changes: int


class Controller:
    """Chooses the beams of each batch. `clock_ms` returns milliseconds that never run backwards."""

    def __init__(
        self, ladder: Ladder, cost: BatchCost, config: BeamPolicyConfig, clock_ms: Callable[[], float]
    ) -> None:
        self._clock_ms = clock_ms
        now_ms = clock_ms()
        self.ladder, self.config = ladder, config
        self._cost = CorrectedCost(cost, len(ladder), config.correction_gain)
        self._rate = ArrivalRate(self._rate_windows(config), now_ms)
        self._policy = build_policy(ladder, config, ladder.full, now_ms)
        self._rung = ladder.full
        self._changes = 0
        self._budget_ms = config.default_deadline_ms
        self._finished_ms = now_ms

    def reconfigure(
        self, config: BeamPolicyConfig, ladder: Ladder | None = None, cost: BatchCost | None = None
    ) -> None:
        """Take a new policy, ladder or cost model between two batches; the measured arrival rate is kept."""
        now_ms = self._clock_ms()
        if cost is not None:
            self._cost = CorrectedCost(cost, len(ladder or self.ladder), config.correction_gain)
        elif ladder is not None and ladder.rungs != self.ladder.rungs:
            self._cost = self._cost.for_rungs(len(ladder))
        self.ladder = ladder or self.ladder
        if self._rate_windows(config) != self._rate_windows(self.config):
            self._rate = ArrivalRate(self._rate_windows(config), now_ms)
        self._rung = min(self._rung, self.ladder.floor)
        self.config = config
        self._cost.gain = config.correction_gain
        self._policy = build_policy(self.ladder, config, self._rung, now_ms)

    def arrived(self, count: int = 1) -> None:
        """Count requests the moment they come in, also those that are shed."""
        self._rate.arrived(self._clock_ms(), count)

    def plan(self, queue: Sequence[QueuedRequest]) -> BatchPlan:
        """The next batch out of `queue` (not empty), its beams, and who can no longer make it."""
        if not queue:
            raise ValueError("plan needs a queue with at least one request")
        now_ms = self._clock_ms()
        self._observe_pause(queue, now_ms)
        backlog = Backlog.of(queue, now_ms, self.config.margin_ms, self._early)
        self._budget_ms = max(backlog.budget_ms, 1.0)
        load = self._load(backlog, now_ms)
        self._move(self._policy.choose(load))
        late = self._spare_a_probe(self._late(load), load)
        kept = self._worth_trying(backlog.without(late) if late else backlog, load)
        whole = load.scattered or len(kept) == 0
        size = len(kept) if whole else min(kept.first_batch(load.paces[self._rung]), len(kept))
        plan = self._batch(kept, size, [int(backlog.order_Q[place]) for place in sorted(late)])
        return self._within_bounds(plan, [queue[position] for position in plan.batch], kept, load)

    def finished(self, plan: BatchPlan, measured_ms: float | None, off_cpu_ms: float = 0.0) -> None:
        """Report that the batch of `plan` took `measured_ms` in the decoder, `off_cpu_ms` of them ready to run and
        without a processor; None, from which nothing is learnt, for one that failed."""
        self._finished_ms = self._clock_ms()
        if plan.batch and measured_ms is not None:
            self._cost.observe(plan.uncorrected_ms, plan.rung, measured_ms, off_cpu_ms)

    def signals(self) -> ControllerSignals:
        """A snapshot for metrics, the response and the autoscaler."""
        rate = self._rate.per_second(self._clock_ms())
        full = self.ladder.full
        return ControllerSignals(
            policy=self.config.policy,
            rung=self._rung,
            widths=self.ladder.rungs[self._rung].widths,
            full_widths=self.ladder.rungs[full].widths,
            arrival_rate_per_second=rate,
            demand_full_width=self._utilisation(full, rate),
            utilisation=self._utilisation(self._rung, rate),
            cost_factor=self._cost.steady_factor,
            rung_changes=self._changes,
        )

    def full_width_capacity(self) -> float:
        """Requests a second one replica sustains at full width."""
        return 1000.0 / self._pace(self.ladder.full, steady=True).busy_ms()

    @property
    def _early(self) -> bool:
        return self.config.answer_late_early

    def _move(self, rung: int) -> None:
        self._changes += rung != self._rung
        self._rung = rung

    def _load(self, backlog: Backlog, now_ms: float) -> Load:
        rate_per_second = self._rate.per_second(now_ms)
        scattered = self._scattered(rate_per_second)
        if scattered:
            likely, scatter = self._cost.scatter.next_ratio, self._cost.scatter
            ratios = (likely(QUICK_SHARE), likely(TYPICAL_SHARE), likely(CAUTIOUS_SHARE), scatter.mean)
            quick, paces, cautious, steady = (self._paces_at(ratio) for ratio in ratios)
        else:
            paces = quick = Paces(len(self.ladder), self._pace)
            cautious = paces.slower(self._cost.safety())
            steady = Paces(len(self.ladder), lambda rung: self._pace(rung, steady=True))
        return Load(
            now_ms=now_ms,
            backlog=backlog,
            paces=paces,
            quick_paces=quick,
            cautious_paces=cautious,
            steady_paces=steady,
            rate_per_second=rate_per_second,
            average_rate_per_second=lambda: self._rate.over(self.config.tabs.average_seconds, now_ms),
            scattered=scattered,
        )

    def _scattered(self, rate_per_second: float) -> bool:
        """Whether batch times are a matter of odds: scattered, or out of line once while the load is calm. The
        baselines are left as they were published."""
        if self.config.policy != "deadline" or not self._early:
            return False
        if self._cost.scatter.shows or not self._cost.scatter.hiccup:
            return self._cost.scatter.shows
        return self._utilisation(self.ladder.full, rate_per_second) < self.config.calm_utilisation

    def _utilisation(self, rung: int, rate_per_second: float) -> float:
        return rate_per_second * self._pace(rung, steady=True).busy_ms() / 1000.0

    def _paces_at(self, ratio: float) -> Paces:
        """Where batches take `ratio` of the modelled time."""
        rungs, scaled_ms = self.ladder.rungs, self._cost.scaled_ms
        return Paces(len(rungs), lambda rung: self._fitted(*scaled_ms(rungs[rung].rows, rung, ratio)))

    def _pace(self, rung: int, steady: bool = False) -> Pace:
        return self._fitted(
            self._cost.fixed_ms(steady), self._cost.request_ms(self.ladder.rungs[rung].rows, rung, steady)
        )

    def _fitted(self, fixed_ms: float, request_ms: float, longer: float = 1.0) -> Pace:
        pace = Pace(fixed_ms, request_ms, self.config.max_batch)
        return Pace(fixed_ms, request_ms, pace.fitting(longer * self.config.batch_share * self._budget_ms))

    def _late(self, load: Load) -> set[int]:
        if load.scattered:
            return load.backlog.surely_late(load.quick_paces[self._rung])
        pace = load.cautious_paces[self._rung]
        if not self._early or load.backlog.drains(pace):
            return set()
        return load.backlog.unservable(pace)

    def _spare_a_probe(self, late: set[int], load: Load) -> set[int]:
        """`late` less the request with most time left, when nothing has been decoded for a while.

        A prediction that gives everything up would never be proved wrong: without a decode there is nothing to learn
        from, and a replica that was slow once would stay silent for good.
        """
        patience_ms = PROBE_BESIDE_NEIGHBOUR_MS if load.scattered else PROBE_MS
        if len(late) < len(load.backlog) or load.now_ms - self._finished_ms < patience_ms:
            return late
        place = int(np.argmax(load.backlog.slack_ms_Q))
        if load.backlog.slack_ms_Q[place] <= 0:
            return late
        self._move(self.ladder.floor)
        return late - {place}

    def _worth_trying(self, backlog: Backlog, load: Load) -> Backlog:
        """All of `backlog`; where times scatter only the next batch, and who is not in it keeps waiting."""
        if not load.scattered or len(backlog) == 0:
            return backlog
        if backlog.drains(load.cautious_paces[self._rung]):
            return backlog.only(slice(0, backlog.first_batch(load.paces[self._rung])))
        quick, scatter = load.quick_paces[self._rung], self._cost.scatter
        fixed_ms, request_ms = self._cost.scaled_ms(self.ladder.rungs[self._rung].rows, self._rung, 1.0)
        most = self._fitted(quick.fixed_ms, quick.request_ms, UNDER_PRESSURE).batch
        return backlog.only(next_batch(backlog, fixed_ms, request_ms, most, scatter.next_ratios(), scatter.slow))

    def _batch(self, backlog: Backlog, size: int, late: list[int]) -> BatchPlan:
        if len(backlog) == 0:
            return BatchPlan((), (), (), tuple(late), self._rung, 0.0, 0.0)
        rungs = (self._rung,) * size
        if self.config.value_split:
            rungs = split_by_value(backlog.value_Q[:size].tolist(), self.ladder, self._rung)
        rows = [self.ladder.rungs[rung].rows for rung in rungs]
        return BatchPlan(
            batch=tuple(int(position) for position in backlog.order_Q[:size]),
            rungs=rungs,
            schedules=tuple(self.ladder.rungs[rung].widths for rung in rungs),
            late=tuple(late),
            rung=self._rung,
            uncorrected_ms=self._cost.base.batch_ms(rows),
            predicted_ms=self._predicted_ms(rungs),
        )

    def _within_bounds(
        self, plan: BatchPlan, requests: Sequence[QueuedRequest], backlog: Backlog, load: Load
    ) -> BatchPlan:
        """The plan with the widths that its requests ask for, as far as deadlines and load allow."""
        if not are_bounded(requests):
            return plan
        size, pace = len(requests), load.cautious_paces[self._rung]
        in_time_ms = time_for_batch_ms(backlog, size, pace) / self._cost.safety()
        affordable_ms = 1000.0 * size * self.config.utilisation_bound / max(load.rate_per_second, 1e-9)
        limit_ms = min(in_time_ms, affordable_ms)
        rungs = bounded_rungs(plan.rungs, requests, self.ladder, self._predicted_ms, limit_ms)
        return replace(
            plan,
            rungs=rungs,
            schedules=tuple(self.ladder.rungs[rung].widths for rung in rungs),
            uncorrected_ms=self._cost.base.batch_ms([self.ladder.rungs[rung].rows for rung in rungs]),
            predicted_ms=self._predicted_ms(rungs),
        )

    def _predicted_ms(self, rungs: Sequence[int]) -> float:
        """The corrected time of a batch with one of `rungs` a request."""
        requests_ms = sum(self._cost.request_ms(self.ladder.rungs[rung].rows, rung) for rung in rungs)
        return self._cost.fixed_ms() + requests_ms

    def _observe_pause(self, queue: Sequence[QueuedRequest], now_ms: float) -> None:
        """The time since the last batch counts as work lost only if a request was waiting when it ended."""
        oldest_ms = min(request.arrived_ms for request in queue)
        if oldest_ms < self._finished_ms <= now_ms:
            self._cost.observe_pause(now_ms - self._finished_ms)
        if now_ms - max(oldest_ms, self._finished_ms) > STILL_MS:
            self._cost.scatter.stood_still()

    @staticmethod
    def _rate_windows(config: BeamPolicyConfig) -> tuple[float, ...]:
        if config.policy not in ("tabs", "tabs_floor", "static"):
            return config.rate_windows_seconds
        return tuple(sorted({*config.rate_windows_seconds, config.tabs.average_seconds}))
