"""A simulated neighbour on the machine, and the bound that no schedule beats."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.ladder import Ladder
from adbeam.beams.simulation import (
    MODEL,
    NEIGHBOURS,
    Simulation,
    SimulationConfig,
    SlowDown,
    Speed,
    allowed_full_width_share,
    servable,
)
from adbeam.errors import UserError
from adbeam.loadtest import arrivals

CAPACITY = 97.0
PAUSES = [name for name, slow_down in NEIGHBOURS.items() if slow_down is not None and slow_down.times is None]


def world(neighbour: str, **settings: object) -> SimulationConfig:
    return SimulationConfig(seed=3, deadline_ms=150.0, slow_down=NEIGHBOURS[neighbour]).model_copy(update=settings)


@pytest.mark.parametrize("name", [name for name in NEIGHBOURS if name != "none"])
def test_a_neighbour_takes_its_share_of_the_core(name: str) -> None:
    slow_down = NEIGHBOURS[name]
    assert slow_down is not None
    cycle_ms = slow_down.mean_on_ms + slow_down.mean_off_ms
    on_speed = 0.0 if slow_down.times is None else 1.0 / slow_down.times
    mean_speed = (slow_down.mean_off_ms + on_speed * slow_down.mean_on_ms) / cycle_ms
    length_ms = 3000 * cycle_ms
    assert Speed(slow_down, seed=1).work_ms(length_ms) / length_ms == pytest.approx(mean_speed, rel=0.05)


@pytest.mark.parametrize("name", list(NEIGHBOURS))
def test_work_ends_when_the_core_has_done_it(name: str) -> None:
    speed = Speed(NEIGHBOURS[name], seed=2)
    random = np.random.default_rng(0)
    for start_ms, work_ms in zip(random.uniform(0, 20_000, 200), random.uniform(0, 80, 200), strict=True):
        end_ms = speed.end_ms(start_ms, work_ms)
        assert end_ms >= start_ms
        assert speed.work_ms(end_ms) - speed.work_ms(start_ms) == pytest.approx(work_ms, abs=1e-6)


def test_a_timer_inside_a_pause_fires_at_its_end() -> None:
    speed = Speed(SlowDown(mean_on_ms=50, mean_off_ms=100), seed=0)
    moved = [(at_ms, speed.awake_ms(at_ms)) for at_ms in np.arange(0.0, 5000.0, 1.0).tolist()]
    asleep = [(at_ms, fires_ms) for at_ms, fires_ms in moved if fires_ms > at_ms]
    assert 0.2 < len(asleep) / len(moved) < 0.5
    for at_ms, fires_ms in asleep:
        assert speed.work_ms(fires_ms) == pytest.approx(speed.work_ms(at_ms))
        assert speed.work_ms(fires_ms + 0.01) > speed.work_ms(fires_ms)
    slower = Speed(SlowDown(times=3, mean_on_ms=50, mean_off_ms=100), seed=0)
    assert all(slower.awake_ms(at_ms) == at_ms for at_ms, _ in moved)


def test_a_neighbour_that_makes_faster_is_refused() -> None:
    with pytest.raises(UserError, match="times"):
        SlowDown.parse({"times": 0.5, "mean_on_ms": 10, "mean_off_ms": 10})


@pytest.mark.parametrize("name", PAUSES)
def test_only_requests_due_in_a_pause_miss_their_deadline(name: str) -> None:
    planned_ms = arrivals.step(0.3 * CAPACITY, 10, 3, 10, 3, seed=3)
    here = world(name)
    result = Simulation(here, BeamPolicyConfig(default_deadline_ms=150.0)).run(planned_ms)
    speed = Speed(here.slow_down, here.seed)
    missed_ms = planned_ms[~result.in_deadline_N] + here.deadline_ms - here.reply_ms
    assert len(missed_ms)
    assert all(speed.awake_ms(due_ms) > due_ms for due_ms in missed_ms.tolist())


@pytest.mark.parametrize("name", list(NEIGHBOURS))
@pytest.mark.parametrize("policy", ["deadline", "static", "tabs_floor"])
def test_no_policy_beats_the_bound(name: str, policy: str) -> None:
    config = BeamPolicyConfig.named(policy).model_copy(update={"default_deadline_ms": 150.0})
    planned_ms = arrivals.step(0.3 * CAPACITY, 10, 2, 5, 2, seed=3)
    simulation = Simulation(world(name), config)
    result = simulation.run(planned_ms)
    model_N = result.in_deadline_N & (result.source_N == MODEL)
    assert model_N.sum() <= servable(world(name), simulation.ladder, config.max_batch, planned_ms).sum()
    full = simulation.ladder.rungs[simulation.ladder.full].mean_width
    width = np.where(model_N, np.minimum(np.nan_to_num(result.width_N), full), 0.0).mean() / full
    assert width <= allowed_full_width_share(world(name), simulation.ladder, config.max_batch, planned_ms)


def test_the_bound_serves_as_many_as_the_best_choice_of_requests() -> None:
    ladder = Ladder.build((8, 8), SimulationConfig().cost)
    random = np.random.default_rng(5)
    for seed in range(20):
        here = SimulationConfig(
            seed=seed, a_ms=0.0, c0_ms=20.0, c1_ms_per_row=0.1, reply_ms=0.0,
            slow_down=SlowDown(times=5, mean_on_ms=40, mean_off_ms=40),
        )  # fmt: skip
        planned_ms = np.sort(random.uniform(0, 120, 8))
        need_ms = here.cost.request_ms(ladder.rungs[ladder.floor].rows)
        found = servable(here, ladder, 1, planned_ms).sum()
        assert found == max(
            len(chosen)
            for size in range(9)
            for chosen in itertools.combinations(planned_ms.tolist(), size)
            if _all_in_time(here, need_ms, chosen)
        )


def _all_in_time(here: SimulationConfig, need_ms: float, chosen: tuple[float, ...]) -> bool:
    """Whether one after the other, in order, all are done by their deadlines."""
    speed, free_ms = Speed(here.slow_down, here.seed), 0.0
    for sent_ms in chosen:
        free_ms = speed.end_ms(max(free_ms, sent_ms), need_ms)
        if free_ms > sent_ms + here.deadline_ms + 1e-6:
            return False
    return True


def test_the_bound_allows_full_width_to_a_quick_core_and_half_of_it_to_one_at_half_speed() -> None:
    ladder = Ladder.build((32, 64, 128), SimulationConfig().cost)
    planned_ms = arrivals.constant(0.9 * CAPACITY, 20)
    assert allowed_full_width_share(world("none"), ladder, 32, planned_ms) == 1.0
    halved = SlowDown(times=1000, mean_on_ms=1, mean_off_ms=1)
    share = allowed_full_width_share(SimulationConfig(seed=1, slow_down=halved), ladder, 32, planned_ms[:600])
    assert share == pytest.approx(0.5 / 0.9, rel=0.1)
