"""Batches whose times scatter: when it shows, what the next one may take, and whom it serves."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.beams.controller_world import World

from adbeam.beams.admission import next_batch
from adbeam.beams.backlog import Backlog, QueuedRequest
from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.scatter import HICCUP, Newest, Scatter
from adbeam.beams.simulation import NEIGHBOURS, Simulation, SimulationConfig
from adbeam.loadtest import arrivals


def backlog(*slacks_ms: float, values: tuple[float, ...] = ()) -> Backlog:
    queue = [QueuedRequest(0.0, ms, value) for ms, value in zip(slacks_ms, values or [1.0] * 99, strict=False)]
    return Backlog.of(queue, 0.0, 0.0, True)


def scattered(pattern: tuple[float, ...] = (1.0,) * 6 + (4.0,) * 6) -> World:
    """A replica whose batches took `pattern` times the modelled time, over and over."""
    world = World()
    for ratio in pattern * 12:
        world.arrive(1, deadline_ms=1000.0)
        plan = world.serve()
        world.now_ms += ratio * plan.uncorrected_ms
        world.controller.finished(plan, ratio * plan.uncorrected_ms)
    return world


def test_noise_and_a_rare_stall_are_no_scatter_but_storms_are() -> None:
    random, scatter = np.random.default_rng(5), Scatter()
    for batch in range(400):
        scatter.observe(10.0, 10.0 * random.lognormal(0.0, 0.08) + 30.0 * (batch % 200 == 99))
        assert not scatter.shows
    for _ in range(3):
        scatter.observe(10.0, 40.0)
    assert scatter.shows
    for _ in range(256):
        scatter.observe(10.0, 10.0)
    assert not scatter.shows


def test_one_stray_is_a_hiccup_for_some_batches() -> None:
    scatter = Scatter()
    for _ in range(20):
        scatter.observe(10.0, 10.0)
        assert not scatter.hiccup
    scatter.observe(10.0, 40.0)
    for _ in range(HICCUP):
        assert scatter.hiccup and not scatter.shows
        scatter.observe(10.0, 10.0)
    assert not scatter.hiccup
    scatter.stood_still()
    assert scatter.hiccup


@pytest.mark.parametrize("stood_still", [True, False])
def test_a_backlog_of_a_pause_under_calm_load_narrows_one_batch_alone(stood_still: bool) -> None:
    world = World()
    world.run(20.0, 10.0)
    world.queue.clear()
    world.now_ms += 70.0
    waited_ms = 60.0 if stood_still else 0.0
    world.queue = [QueuedRequest(world.now_ms - waited_ms, world.now_ms + 40.0)] * 6
    cut = world.serve()
    assert cut.rung > world.ladder.full
    world.now_ms += cut.uncorrected_ms
    world.controller.finished(cut, cut.uncorrected_ms)
    world.queue.clear()
    world.arrive(1)
    assert (world.serve().rung == world.ladder.full) == stood_still


def test_what_comes_next_depends_on_the_last_batch() -> None:
    scatter = Scatter()
    for _ in range(10):
        for ratio in (1.0, 1.0, 1.0, 1.0, 4.0, 4.0, 4.0, 4.0):
            scatter.observe(10.0, 10.0 * ratio)
    assert np.mean(scatter.next_ratios()) == pytest.approx(0.75 * 4 + 0.25, rel=0.1)
    for _ in range(2):
        scatter.observe(10.0, 10.0)
    assert np.mean(scatter.next_ratios()) == pytest.approx(0.75 + 0.25 * 4, rel=0.1)
    assert 2.0 < scatter.mean < 2.6


def test_the_newest_numbers_are_at_hand_in_rising_order() -> None:
    random, newest = np.random.default_rng(3), Newest(7)
    numbers = random.integers(0, 9, size=60).tolist()
    for place, number in enumerate(numbers, start=1):
        newest.append(number)
        assert newest.rising == sorted(numbers[max(0, place - 7) : place])


@pytest.mark.parametrize("batches", [1, 2, 5, 6, 40, 300])
def test_a_share_of_the_ratios_is_their_quantile(batches: int) -> None:
    random, scatter = np.random.default_rng(batches), Scatter()
    for _ in range(batches):
        scatter.observe(10.0, 10.0 * random.lognormal(0.0, 1.0))
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        assert scatter.next_ratio(share) == pytest.approx(np.quantile(scatter.next_ratios(), share))


def test_the_batch_is_the_most_urgent_one_that_is_nearly_as_good_as_any() -> None:
    even, uneven = [1.0], [1.0, 4.0]
    assert next_batch(backlog(20.0, 20.0, 20.0), 1.0, 5.0, 8, even, True) == slice(0, 3)
    assert next_batch(backlog(2.0, 20.0, 20.0), 1.0, 5.0, 8, even, True) == slice(1, 3), "the first is past saving"
    assert next_batch(backlog(12.0, 100.0, 100.0), 1.0, 5.0, 8, uneven, True) == slice(1, 3), "the first is a gamble"
    assert next_batch(backlog(12.0, 12.0), 1.0, 5.0, 1, uneven, True) == slice(0, 1)
    urgent = backlog(12.0, 100.0, 100.0)
    rarely = [1.0] * 9 + [3.0]
    assert next_batch(urgent, 1.0, 5.0, 8, rarely, False) == slice(0, 2), "in a calm the others can wait"
    assert next_batch(urgent, 1.0, 5.0, 8, rarely, True) == slice(1, 3), "in a storm its time counts for more"
    dear = backlog(12.0, 100.0, values=(9.0, 1.0))
    assert next_batch(dear, 1.0, 5.0, 1, uneven, True) == slice(0, 1), "a gamble worth it"


def test_beside_a_neighbour_only_what_nothing_can_save_is_given_up_and_the_rest_waits() -> None:
    world = scattered()
    world.queue = [QueuedRequest(world.now_ms, world.now_ms + ms) for ms in (5.5, 40.0, *[100.0] * 40)]
    plan = world.serve()
    assert plan.late == (0,)
    assert plan.batch
    assert len(world.queue) == 42 - 1 - len(plan.batch)


def test_every_plan_takes_something_out_of_the_queue() -> None:
    world, random = scattered(), np.random.default_rng(2)
    for _ in range(600):
        world.now_ms += float(random.exponential(20.0))
        world.arrive(int(random.integers(0, 12)), deadline_ms=float(random.uniform(1, 150)))
        if world.queue:
            plan = world.serve()
            assert plan.batch or plan.late
            ratio = float(random.choice([1.0, 4.0, 20.0]))
            world.now_ms += ratio * plan.uncorrected_ms
            world.controller.finished(plan, ratio * plan.uncorrected_ms)


def test_a_backlog_beside_a_neighbour_cuts_one_batch() -> None:
    world = scattered()
    world.queue.clear()
    world.arrive(15)
    cut = world.serve()
    assert cut.rung > world.ladder.full
    world.now_ms += cut.uncorrected_ms
    world.controller.finished(cut, cut.uncorrected_ms)
    world.queue.clear()
    world.now_ms += 650.0  # the burst has left the arrival rate; no hold would have ended yet
    world.arrive(1)
    assert world.serve().rung == world.ladder.full


@pytest.mark.parametrize(
    ("name", "model", "width"),
    [("4x_100_100", 0.7, 0.8), ("8x_30_200", 0.93, 0.93), ("4x_500_500", 0.5, 0.75), ("pause_200_of_2000", 0.8, 0.8)],
)
def test_a_step_and_the_base_load_beside_a_neighbour(name: str, model: float, width: float) -> None:
    world = SimulationConfig(seed=3, deadline_ms=150.0, slow_down=NEIGHBOURS[name])
    policy = BeamPolicyConfig.named("deadline").model_copy(update={"default_deadline_ms": 150.0})
    step = Simulation(world, policy).run(arrivals.poisson(3 * 97.0, 12, seed=3)).figures()
    if not name.startswith("pause"):  # who is due in a pause of the whole process gets no answer in time
        assert step["in_deadline"] >= 0.999
    assert step["model_in_deadline"] >= model
    base = Simulation(world, policy).run(arrivals.poisson(0.3 * 97.0, 20, seed=3))
    assert base.figures()["mean_width"] / np.nanmax(base.width_N) >= width


def test_a_pause_before_the_first_batch_leaves_batches_as_modelled() -> None:
    world = World()
    world.now_ms += 1000.0
    world.queue = [QueuedRequest(world.now_ms - 60.0, world.now_ms + 40.0)]
    plan = world.serve()
    assert world.controller._cost.scatter.hiccup and list(plan.batch) == [0]
    assert Scatter().next_ratio(0.8) == 1.0
