"""Which requests go into a batch, which are late, and how the width is split among them."""

from __future__ import annotations

from tests.support.beams.controller_world import COST, FULL, World

from adbeam.beams.backlog import QueuedRequest
from adbeam.beams.ladder import Ladder
from adbeam.beams.value_split import split_by_value


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


def test_a_request_that_nobody_could_answer_narrows_nothing() -> None:
    world = World()
    world.run(rate_per_second=30, seconds=5)
    world.queue = [QueuedRequest(world.now_ms, world.now_ms + 6.0), QueuedRequest(world.now_ms, world.now_ms + 100.0)]
    plan = world.serve()
    assert (plan.late, plan.batch, plan.rung) == ((0,), (1,), 0)
