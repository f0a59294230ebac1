"""The policies: what each does with the width, their files and their replacement."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.beams.controller_world import COST, World

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.ladder import Ladder
from adbeam.errors import UserError
from adbeam.imports.extension_points import POLICIES as NAMED

POLICIES = Path(__file__).parents[3] / "serving" / "policies"


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


def test_a_policy_by_name_is_the_shipped_file() -> None:
    for name in NAMED.names:
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
