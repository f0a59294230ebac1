"""The controller, batch by batch, on a clock the test turns."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from adbeam.beams.backlog import Backlog, Pace, QueuedRequest
from adbeam.beams.config import BeamPolicyConfig, LadderConfig, Policy
from adbeam.beams.controller import BatchPlan, Controller
from adbeam.beams.cost import BatchCost
from adbeam.beams.ladder import Ladder
from adbeam.beams.value_split import split_by_value
from adbeam.errors import UserError

FULL = (32, 64, 128)
POLICIES = Path(__file__).parents[3] / "serving" / "policies"
COST = BatchCost(a_ms=1.0, c0_ms=1.0, c1_ms_per_row=0.04)  # 10 ms a request at full width


class World:
    """A replica with an injected clock: requests come evenly, batches take exactly what the cost model says."""

    def __init__(self, **settings: object) -> None:
        self.now_ms = 0.0
        self.config = BeamPolicyConfig.parse({"margin_ms": 5.0, "max_batch": 16, "batch_share": 0.4, **settings})
        self.ladder = Ladder.build(FULL, COST, config=self.config.ladder)
        self.controller = Controller(self.ladder, COST, self.config, lambda: self.now_ms)
        self.queue: list[QueuedRequest] = []
        self.plans: list[tuple[float, BatchPlan]] = []
        self.waited_ms: list[float] = []

    def arrive(self, count: int, deadline_ms: float = 100.0, value: float = 1.0) -> None:
        self.controller.arrived(count)
        self.queue += [QueuedRequest(self.now_ms, self.now_ms + deadline_ms, value)] * count

    def serve(self) -> BatchPlan:
        plan = self.controller.plan(self.queue)
        gone = {*plan.batch, *plan.late}
        ended_ms = self.now_ms + plan.uncorrected_ms
        self.waited_ms += [ended_ms - self.queue[position].arrived_ms for position in plan.batch]
        self.queue = [request for position, request in enumerate(self.queue) if position not in gone]
        self.plans.append((self.now_ms, plan))
        return plan

    def run(self, rate_per_second: float, seconds: float) -> None:
        """Serve `seconds` of evenly spaced arrivals."""
        gap_ms, end_ms = 1000.0 / rate_per_second, self.now_ms + 1000.0 * seconds
        next_ms, busy_until_ms, running = self.now_ms + gap_ms, self.now_ms, None
        while self.now_ms < end_ms:
            self.now_ms = min(next_ms, busy_until_ms if running else next_ms)
            if running and self.now_ms >= busy_until_ms:
                self.controller.finished(running, running.uncorrected_ms)
                running = None
            if self.now_ms >= next_ms:
                self.arrive(1)
                next_ms += gap_ms
            if running is None and self.queue:
                running = self.serve()
                running = running if running.batch else None
                busy_until_ms = self.now_ms + (running.uncorrected_ms if running else 0.0)


def test_light_load_is_searched_at_full_width() -> None:
    world = World()
    world.run(rate_per_second=30, seconds=20)
    assert {plan.rung for _, plan in world.plans} == {0}
    assert all(plan.schedules == (FULL,) * len(plan.batch) for _, plan in world.plans)


def test_a_backlog_cuts_the_very_next_batch_and_only_as_far_as_needed() -> None:
    world = World()
    world.run(rate_per_second=30, seconds=5)
    world.queue.clear()
    world.arrive(15)
    plan = world.serve()
    assert 0 < plan.rung < world.ladder.floor
    backlog = Backlog.of([QueuedRequest(world.now_ms, world.now_ms + 100)] * 15, world.now_ms, 5.0, True)
    cost = world.ladder.rungs[plan.rung - 1].cost_ms
    assert backlog.drains(Pace(COST.a_ms, world.ladder.rungs[plan.rung].cost_ms, 16))
    assert not backlog.drains(Pace(COST.a_ms, cost, int((0.4 * 100 - COST.a_ms) / cost)))


def test_a_step_is_cut_within_two_batches_and_no_answer_is_late() -> None:
    world = World()
    world.run(rate_per_second=30, seconds=10)
    start_ms, before = world.now_ms, len(world.plans)
    world.run(rate_per_second=250, seconds=10)
    cut_ms = next(time_ms for time_ms, plan in world.plans[before:] if plan.rung > 0)
    assert cut_ms - start_ms < 100
    assert max(world.waited_ms) <= 100
    assert not any(plan.late for _, plan in world.plans)


def test_width_returns_one_rung_per_interval_after_the_step() -> None:
    world = World()
    world.run(rate_per_second=250, seconds=10)
    end_ms, narrow = world.now_ms, world.plans[-1][1].rung
    world.run(rate_per_second=30, seconds=6)
    after = [(time_ms, plan.rung) for time_ms, plan in world.plans if time_ms > end_ms]
    widenings = [(time_ms, a - b) for (_, a), (time_ms, b) in itertools.pairwise(after) if b < a]
    assert narrow >= 3
    assert after[-1][1] == 0
    assert all(step == 1 for _, step in widenings)
    gaps = np.diff([time_ms for time_ms, _ in widenings])
    assert gaps.min() >= world.config.widen_interval_ms
    assert next(time_ms for time_ms, rung in after if rung == 0) - end_ms < 5000


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_even_load_settles_on_one_rung(share: float) -> None:
    world = World()
    world.run(rate_per_second=share * 97, seconds=10)
    settled = world.controller.signals().rung_changes
    world.run(rate_per_second=share * 97, seconds=30)
    assert world.controller.signals().rung_changes - settled <= 2


def test_a_rung_given_up_is_left_alone_at_the_same_load_but_not_at_less() -> None:
    world = World(hold_seconds=30)
    world.run(rate_per_second=70, seconds=5)
    world.arrive(14)
    world.serve()
    world.queue.clear()
    cut_ms = world.now_ms
    world.run(rate_per_second=70, seconds=20)
    assert all(plan.rung > 0 for time_ms, plan in world.plans if time_ms > cut_ms)
    world.run(rate_per_second=30, seconds=5)
    assert world.plans[-1][1].rung == 0


def test_sure_late_requests_are_told_at_once_and_the_rest_is_served() -> None:
    world = World()
    world.queue = [QueuedRequest(-98.0, 2.0), QueuedRequest(0.0, 100.0), QueuedRequest(-200.0, -100.0)]
    plan = world.serve()
    assert sorted(plan.late) == [0, 2]
    assert plan.batch == (1,)


def test_overload_gives_up_the_least_valuable_requests_and_no_more_than_needed() -> None:
    world = World()
    world.queue = [QueuedRequest(0.0, 100.0, value=1.0 + (i % 3 == 0)) for i in range(120)]
    world.controller.arrived(120)
    plan = world.serve()
    assert plan.rung == world.ladder.floor
    assert plan.late
    assert all(position % 3 != 0 for position in plan.late)
    kept = 120 - len(plan.late)
    assert 0.8 * 95 / world.ladder.rungs[-1].cost_ms < kept < 95 / world.ladder.rungs[-1].cost_ms


def test_a_plan_may_hold_no_batch_when_all_are_late() -> None:
    world = World()
    world.queue = [QueuedRequest(-500.0, -400.0)] * 3
    plan = world.serve()
    assert plan.batch == ()
    assert sorted(plan.late) == [0, 1, 2]
    world.controller.finished(plan, 0.0)


def test_late_is_known_while_a_batch_runs() -> None:
    world = World()
    world.arrive(3)
    plan = world.serve()
    assert plan.predicted_ms == pytest.approx(31)
    waiting = [QueuedRequest(0.0, 20.0), QueuedRequest(0.0, 200.0)]
    assert world.controller.late(waiting) == (0,)


def test_the_most_urgent_request_goes_first_even_if_alone() -> None:
    world = World()
    world.queue = [QueuedRequest(0.0, 300.0), QueuedRequest(0.0, 18.0), QueuedRequest(0.0, 300.0)]
    plan = world.serve()
    assert plan.batch == (1,)
    assert plan.rung == 0


def test_no_request_starves_behind_urgent_ones() -> None:
    world = World()
    patient = QueuedRequest(0.0, 2000.0)
    world.queue = [patient]
    served_ms = None
    for _ in range(400):
        while len(world.queue) < 12:
            world.arrive(1, deadline_ms=60.0)
        present = patient in world.queue
        plan = world.serve()
        world.now_ms += max(plan.uncorrected_ms, 1.0)
        world.controller.finished(plan, plan.uncorrected_ms)
        if present and patient not in world.queue:
            served_ms = world.now_ms
            break
    assert served_ms is not None
    assert served_ms <= 2000


def test_batches_take_a_share_of_the_deadline_at_most() -> None:
    world = World()
    world.arrive(4)
    assert len(world.serve().batch) == 3
    generous = World()
    generous.arrive(16, deadline_ms=1000.0)
    assert len(generous.serve().batch) == 16


def test_static_never_leaves_full_width_and_tabs_never_falls_below_it() -> None:
    for policy in ("static", "tabs"):
        world = World(policy=policy, answer_late_early=False, ladder={"off_peak_bonus": 1.6})
        world.run(rate_per_second=300, seconds=10)
        rows = {world.ladder.rungs[plan.rung].rows for time_ms, plan in world.plans if time_ms > 5000}
        assert rows == {world.ladder.rungs[world.ladder.full].rows}
        assert not any(plan.late for _, plan in world.plans)


def test_tabs_widens_off_peak_by_its_law() -> None:
    world = World(policy="tabs", answer_late_early=False, ladder={"off_peak_bonus": 1.6})
    world.run(rate_per_second=5, seconds=10)
    assert world.plans[-1][1].rung < world.ladder.full


def test_tabs_floor_follows_the_average_rate_down_to_the_lowest_rung() -> None:
    world = World(policy="tabs_floor", answer_late_early=False)
    world.run(rate_per_second=30, seconds=10)
    start_ms = world.now_ms
    world.run(rate_per_second=300, seconds=10)
    rungs = [(time_ms - start_ms, plan.rung) for time_ms, plan in world.plans if time_ms >= start_ms]
    assert all(rung == 0 for time_ms, rung in rungs if time_ms < 500)
    assert rungs[-1][1] == world.ladder.floor


def test_value_split_spends_no_more_and_widens_the_valuable() -> None:
    ladder = Ladder.build(FULL, COST)
    rung = 3
    split = split_by_value([1.0, 10.0, 1.0, 10.0], ladder, rung)
    assert split[1] < rung < split[0]
    assert (split[0], split[1]) == (split[2], split[3])
    assert sum(ladder.rungs[r].cost_ms for r in split) <= 4 * ladder.rungs[rung].cost_ms + 1e-9
    assert split_by_value([2.0, 2.0], ladder, rung) == (rung, rung)
    assert split_by_value([1.0, 5.0], ladder, ladder.full) == (ladder.full, ladder.full)


def test_the_plan_carries_the_split() -> None:
    world = World(value_split=True)
    world.queue = [QueuedRequest(0.0, 100.0, value=1.0 + 9 * (i % 2)) for i in range(20)]
    plan = world.serve()
    assert len(set(plan.rungs)) > 1
    assert plan.schedules == tuple(world.ladder.rungs[rung].widths for rung in plan.rungs)


def test_demand_at_full_width_does_not_fall_when_beams_do() -> None:
    world = World()
    world.run(rate_per_second=250, seconds=10)
    signals = world.controller.signals()
    assert signals.rung > 0
    assert signals.demand_full_width == pytest.approx(250 / world.controller.full_width_capacity(), rel=0.1)
    assert signals.utilisation < 1


def test_a_slow_core_is_noticed_within_a_few_batches() -> None:
    world = World()
    predicted = []
    for _ in range(40):
        world.arrive(1)
        plan = world.serve()
        predicted.append(plan.predicted_ms / plan.uncorrected_ms)
        world.now_ms += 2 * plan.uncorrected_ms
        world.controller.finished(plan, 2 * plan.uncorrected_ms)
    assert predicted[0] == pytest.approx(1.0)
    assert predicted[6] > 1.7
    assert world.controller.full_width_capacity() == pytest.approx(97.0 / 2, rel=0.15)


def test_a_request_that_nobody_could_answer_narrows_nothing() -> None:
    world = World()
    world.run(rate_per_second=30, seconds=5)
    world.queue = [QueuedRequest(world.now_ms, world.now_ms + 6.0), QueuedRequest(world.now_ms, world.now_ms + 100.0)]
    plan = world.serve()
    assert (plan.late, plan.batch, plan.rung) == ((0,), (1,), 0)


def test_nothing_is_learnt_from_a_batch_that_failed() -> None:
    world = World()
    for _ in range(20):
        world.arrive(1)
        world.controller.finished(world.serve(), None)
    assert world.controller.signals().cost_factor == 1.0


def test_what_was_learnt_of_the_machine_outlives_a_new_policy_and_ladder() -> None:
    world = World()
    for _ in range(40):
        world.arrive(1)
        plan = world.serve()
        world.now_ms += 2 * plan.uncorrected_ms
        world.controller.finished(plan, 2 * plan.uncorrected_ms)
    learnt = world.controller.signals().cost_factor
    assert learnt > 1.5
    for ladder in (world.ladder, Ladder.build(FULL, COST, config=LadderConfig(max_rungs=3))):
        world.controller.reconfigure(BeamPolicyConfig(), ladder)
        assert world.controller.signals().cost_factor == learnt
    world.controller.reconfigure(BeamPolicyConfig(), world.ladder, COST)
    assert world.controller.signals().cost_factor == 1.0


def test_a_policy_by_name_is_the_shipped_file() -> None:
    for name in get_args(Policy):
        assert BeamPolicyConfig.named(name) == BeamPolicyConfig.load(POLICIES / f"{name}.yaml")


def test_a_policy_can_be_replaced_between_batches() -> None:
    world = World()
    world.run(rate_per_second=250, seconds=5)
    assert world.controller.signals().rung > 0
    world.controller.reconfigure(BeamPolicyConfig(policy="static", answer_late_early=False))
    world.queue.clear()
    world.arrive(20)
    assert world.serve().rung == 0
    shorter = Ladder.build((4, 8, 16), COST)
    world.controller.reconfigure(BeamPolicyConfig(), shorter)
    world.arrive(1)
    assert world.serve().schedules[0] in {rung.widths for rung in shorter.rungs}


def test_an_unknown_policy_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="margin_ms"):
        BeamPolicyConfig.parse({"margin": 3})
    with pytest.raises(UserError, match="oscillates"):
        BeamPolicyConfig.parse({"utilisation_bound": 0.5, "widen_utilisation": 0.6})


def test_a_replica_that_was_slow_once_finds_out_that_it_is_fast_again() -> None:
    world, decoded = World(), 0
    for request in range(400):
        world.now_ms += 50.0
        world.queue.clear()
        world.arrive(1, deadline_ms=22.0)
        plan = world.serve()
        stands_still = request < 40  # every batch takes far longer than any deadline, then the machine is itself again
        took_ms = 400.0 if stands_still else plan.uncorrected_ms
        if plan.batch:
            world.now_ms += took_ms
            world.controller.finished(plan, took_ms)
            decoded += not stands_still
    assert decoded > 300


@pytest.mark.parametrize(("rate", "back"), [(20.0, True), (85.0, False)])
def test_a_hiccup_at_little_load_does_not_hold_the_width_back(rate: float, back: bool) -> None:
    """20 requests/s are a fifth of the capacity: a stall of 70 ms is none of the rung's fault."""
    world = World(utilisation_bound=0.92, hold_seconds=30.0)
    world.run(rate, 20.0)
    world.queue = [QueuedRequest(world.now_ms - 50.0, world.now_ms + 50.0)] * 8  # they waited for the stall to end
    plan = world.serve()
    world.controller.finished(plan, plan.uncorrected_ms)
    assert world.plans[-1][1].rung > world.ladder.full, "the backlog does not drain at full width"
    world.queue.clear()
    world.run(rate, 6.0)
    assert (world.plans[-1][1].rung == world.ladder.full) == back
