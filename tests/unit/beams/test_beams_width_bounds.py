"""A request's own cap and minimum of beams: what holds, and what the policy overrules."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.beams.controller_world import World

from adbeam.beams.backlog import Backlog, Pace, QueuedRequest
from adbeam.beams.controller import BatchPlan
from adbeam.beams.width_bounds import capped, time_for_batch_ms, widened

ANYONE = QueuedRequest(0.0, 100.0)


def asking(world: World, most: int | None = None, least: int | None = None, deadline_ms: float = 100.0) -> None:
    """One request with these bounds arrives."""
    world.controller.arrived()
    world.queue.append(QueuedRequest(world.now_ms, world.now_ms + deadline_ms, 1.0, most, least))


def last_widths(plan: BatchPlan) -> list[int]:
    return [widths[-1] for widths in plan.schedules]


def narrowed(rate_per_second: float = 600.0) -> World:
    """A replica whose policy has left full width under load, with nothing waiting."""
    world = World()
    world.run(rate_per_second, 3.0)
    world.queue.clear()
    assert world.controller.signals().rung == world.ladder.floor
    return world


def test_a_cap_takes_the_widest_rung_within_it_and_leaves_others_alone() -> None:
    world = World()
    asking(world)
    asking(world, most=40)
    plan = world.serve()
    full, narrow = world.ladder.rungs[0], world.ladder.rungs[capped(0, world.ladder, 40)]
    assert plan.schedules == (full.widths, narrow.widths) and 8 < narrow.widths[-1] <= 40
    costs = world.controller._cost.base
    assert plan.uncorrected_ms == costs.batch_ms([full.rows, narrow.rows]) < costs.batch_ms([full.rows] * 2)
    assert plan.predicted_ms == pytest.approx(plan.uncorrected_ms)
    assert plan.rung == 0, "the policy's rung is still the policy's"


def test_a_cap_below_the_ladder_gets_the_floor_and_one_above_the_rung_changes_nothing() -> None:
    ladder = World().ladder
    assert capped(0, ladder, 1) == ladder.floor
    assert capped(3, ladder, 128) == 3 and capped(3, ladder, None) == 3


def test_requests_without_bounds_are_planned_as_ever() -> None:
    plain, bounded = World(), World()
    for world, most in ((plain, None), (bounded, 128)):
        for _ in range(5):
            asking(world, most)
    assert plain.serve() == bounded.serve()


def test_a_minimum_widens_where_time_and_load_allow() -> None:
    world = narrowed()
    world.now_ms += 150  # the shortest window of the rate has seen the load end, the policy not yet
    asking(world, least=64)
    plan = world.serve()
    assert plan.rung > 0 and last_widths(plan) == [64]


def test_the_policys_rung_wins_where_the_minimum_would_be_late() -> None:
    world = narrowed()
    world.now_ms += 150
    asking(world, least=128, deadline_ms=12.0)  # full width takes 11 ms, and 5 are kept for the way back
    plan = world.serve()
    assert plan.batch and plan.rungs == (plan.rung,) != (0,)


def test_the_policys_rung_wins_where_those_behind_would_be_late() -> None:
    world = narrowed()
    world.now_ms += 150
    asking(world, least=128)
    for _ in range(16):
        asking(world, deadline_ms=40.0)
    plan = world.serve()
    floor = world.ladder.rungs[world.ladder.floor].widths[-1]
    assert plan.late == () and set(last_widths(plan)) == {floor}


def test_the_policys_rung_wins_under_a_load_that_the_minimum_could_not_sustain() -> None:
    world = narrowed()
    for _ in range(8):
        asking(world, least=128)
    assert set(last_widths(world.serve())) == {world.ladder.rungs[world.ladder.floor].widths[-1]}


class Demanding(World):
    """Everybody asks for full width."""

    def arrive(self, count: int, deadline_ms: float = 100.0, value: float = 1.0) -> None:
        for _ in range(count):
            asking(self, least=128, deadline_ms=deadline_ms)


def test_minima_of_everybody_cost_nobody_a_deadline() -> None:
    world = Demanding()
    world.run(500.0, 5.0)
    assert max(world.waited_ms) <= 95.0
    assert sum(len(plan.late) for _, plan in world.plans) == 0


def test_a_minimum_never_reaches_above_full_width_nor_over_its_own_cap() -> None:
    ladder = World(ladder={"off_peak_bonus": 1.6}).ladder
    assert ladder.full == 2
    most = widened(ladder.floor, ladder, QueuedRequest(0, 1, width_min=129))
    assert most == ladder.full and ladder.rungs[most].widths[-1] == 128
    assert widened(0, ladder, QueuedRequest(0, 1, width_min=128)) == 0
    between = (ladder.rungs[-1].widths[-1] + 1, ladder.rungs[-2].widths[-1] - 1)
    request = QueuedRequest(0, 1, width_max=between[1], width_min=between[0])
    assert widened(capped(0, ladder, between[1]), ladder, request) == ladder.floor


def test_a_batch_may_take_what_it_and_those_behind_it_leave() -> None:
    backlog = Backlog.of([QueuedRequest(0.0, 50.0), QueuedRequest(0.0, 60.0)], 0.0, 0.0, True)
    pace = Pace(1.0, 20.0, 8)
    assert time_for_batch_ms(backlog, 2, pace) == 50.0
    assert time_for_batch_ms(backlog, 1, pace) == 60.0 - 21.0
    assert np.isfinite(time_for_batch_ms(backlog, 1, Pace(0.0, 0.0, 8)))
