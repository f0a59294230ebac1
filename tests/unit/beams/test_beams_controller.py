"""The controller, batch by batch, on a clock the test turns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.support.beams.controller_world import COST, FULL, World

from adbeam.beams.backlog import Backlog, Pace, QueuedRequest
from adbeam.beams.config import BeamPolicyConfig, LadderConfig
from adbeam.beams.ladder import Ladder


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
