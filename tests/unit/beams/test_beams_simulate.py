"""The simulated spike: the bar the live system has to meet, on seeded arrivals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adbeam.beams.config import AutoscaleConfig, BeamPolicyConfig
from adbeam.beams.ladder import Ladder
from adbeam.beams.simulation import FALLBACK, MODEL, SHED, Simulation, SimulationConfig, SimulationResult
from adbeam.loadtest import arrivals

POLICIES = Path(__file__).parents[3] / "serving" / "policies"
WORLD = SimulationConfig(seed=4)
CAPACITY = 97.0


def simulate(policy: str, planned_ms: np.ndarray, **settings: object) -> SimulationResult:
    config = BeamPolicyConfig.load(POLICIES / f"{policy}.yaml").model_copy(update=settings)
    return Simulation(WORLD, config).run(planned_ms)


@pytest.fixture(scope="module")
def step() -> np.ndarray:
    return arrivals.step(0.3 * CAPACITY, 10, before_seconds=6, during_seconds=12, after_seconds=6, seed=4)


@pytest.fixture(scope="module")
def by_deadline(step: np.ndarray) -> SimulationResult:
    return simulate("deadline", step)


def test_every_request_has_exactly_one_outcome(by_deadline: SimulationResult) -> None:
    assert np.all(np.isin(by_deadline.source_N, [MODEL, FALLBACK, SHED]))
    assert np.all(np.isnan(by_deadline.answered_ms_N) == (by_deadline.source_N == SHED))
    assert np.all(by_deadline.answered_ms_N[by_deadline.source_N != SHED] > by_deadline.planned_ms_N[0])


def test_a_ten_fold_step_keeps_its_deadlines(by_deadline: SimulationResult) -> None:
    figures = by_deadline.figures()
    assert figures["in_deadline"] >= 0.998
    assert figures["model_in_deadline"] >= 0.95
    assert figures["shed"] == 0


def test_beams_fall_in_the_step_and_return(by_deadline: SimulationResult) -> None:
    times, width = by_deadline.planned_ms_N, by_deadline.width_N
    full = np.nanmax(width)
    assert np.nanmean(width[times < 6_000]) > 0.95 * full
    assert np.nanmean(width[(times > 8_000) & (times < 18_000)]) < 0.4 * full
    assert np.nanmin(width[times > 23_000]) == full


def test_the_other_policies_lose_most_of_the_value(step: np.ndarray, by_deadline: SimulationResult) -> None:
    ours = by_deadline.figures()["value"]
    others = {policy: simulate(policy, step).figures()["value"] for policy in ("static", "tabs", "tabs_floor")}
    assert ours >= 4 * others["static"]
    assert ours >= 1.1 * max(others["tabs"], others["tabs_floor"])


def test_a_dearer_request_makes_tabs_floor_collapse(step: np.ndarray) -> None:
    world = SimulationConfig(seed=4, c0_ms=2.5, c1_ms_per_row=0.033)
    ours, tabs = (
        Simulation(world, BeamPolicyConfig.load(POLICIES / f"{policy}.yaml")).run(step).figures()
        for policy in ("deadline", "tabs_floor")
    )
    assert ours["in_deadline"] >= 0.998
    assert ours["value"] >= 2 * tabs["value"]


@pytest.mark.parametrize(("share", "most"), [(0.5, 2), (0.8, 6), (0.95, 12)])
def test_steady_load_does_not_oscillate(share: float, most: int) -> None:
    world = SimulationConfig(seed=4, deadline_ms=150)
    config = BeamPolicyConfig.load(POLICIES / "deadline.yaml").model_copy(update={"default_deadline_ms": 150.0})
    result = Simulation(world, config).run(arrivals.poisson(share * CAPACITY, seconds=60, seed=4))
    assert result.figures()["rung_changes"] <= most
    assert result.figures()["in_deadline"] >= 0.999


def test_overload_beyond_the_floor_is_answered_by_the_fallback_in_time() -> None:
    figures = simulate("deadline", arrivals.poisson(12 * CAPACITY, seconds=6, seed=4)).figures()
    assert figures["in_deadline"] >= 0.99
    assert 0.2 < figures["model_in_deadline"] < 0.7


def test_value_split_serves_more_value() -> None:
    planned = arrivals.poisson(2 * CAPACITY, seconds=8, seed=4)
    values = np.random.default_rng(4).lognormal(0, 1.5, len(planned))
    config = BeamPolicyConfig.load(POLICIES / "deadline.yaml")
    even, split = (
        Simulation(WORLD, config.model_copy(update={"value_split": on})).run(planned, values).figures()["value"]
        for on in (False, True)
    )
    assert split > even


def test_a_bounded_queue_sheds() -> None:
    figures = simulate("static", arrivals.poisson(3 * CAPACITY, seconds=5, seed=4), max_queue=10).figures()
    assert figures["shed"] > 0.4


def test_replicas_follow_the_load_up_and_down() -> None:
    planned = arrivals.steps([(0.4 * CAPACITY, 8), (2 * CAPACITY, 25), (0.4 * CAPACITY, 30)], seed=4)
    scale = AutoscaleConfig(max_replicas=4, target_utilisation=0.7, downscale_cooldown_seconds=10)
    world = SimulationConfig(seed=4, start_up_seconds=6)
    config = BeamPolicyConfig.load(POLICIES / "deadline.yaml")
    result = Simulation(world, config, autoscale=scale).run(planned)
    counts = [count for _, count in result.replicas]
    assert max(counts) in (3, 4)
    assert counts[0] == counts[-1] == 1
    full = np.nanmax(result.width_N)
    times = result.planned_ms_N
    assert np.nanmean(result.width_N[(times > 10_000) & (times < 13_500)]) < 0.8 * full
    assert np.nanmean(result.width_N[(times > 22_000) & (times < 32_500)]) > 0.95 * full
    assert result.figures()["in_deadline"] >= 0.998


def test_the_same_seed_gives_the_same_run() -> None:
    planned = arrivals.poisson(CAPACITY, seconds=5, seed=1)
    first, second = simulate("deadline", planned), simulate("deadline", planned)
    assert np.array_equal(first.answered_ms_N, second.answered_ms_N)


def test_more_replicas_carry_more() -> None:
    config = BeamPolicyConfig.load(POLICIES / "deadline.yaml")
    world = SimulationConfig(seed=4, replicas=20)
    result = Simulation(world, config, Ladder.build(world.full_widths, world.cost)).run(
        arrivals.poisson(0.5 * 20 * CAPACITY, seconds=5, seed=4)
    )
    assert result.figures()["mean_width"] > 0.97 * np.nanmax(result.width_N)
