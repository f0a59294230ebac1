"""Twelve neighbours on the machine of one simulated replica, each against the bound that no schedule can beat.

A ten-fold step of 30 s from 30 % of full-width capacity with a 150 ms deadline, and the base load alone; seeds 1 to 5.
The step counts by the share of its requests that the model answers in time, the base load by mean width, where a
request without such an answer has width 0. Where the whole process stands still nothing can be answered: requests whose
answer was due in such a pause are counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.controller import Controller
from adbeam.beams.ladder import Ladder
from adbeam.beams.simulation import (
    MODEL,
    NEIGHBOURS,
    Simulation,
    SimulationConfig,
    SimulationResult,
    Speed,
    allowed_full_width_share,
    servable,
)
from adbeam.loadtest import arrivals

SEEDS = (1, 2, 3, 4, 5)
DEADLINE_MS = 150.0
BEFORE_SECONDS, STEP_SECONDS, AFTER_SECONDS = 10.0, 30.0, 10.0
BASE_SECONDS = 40.0
RECOVERY_BIN_SECONDS = 0.5
RECOVERED_SHARE = 0.95


@dataclass(frozen=True)
class StepRun:
    """One step: counts of its requests, whether each request of the run was answered in time, and widths by time."""

    model: int
    bound: int
    sent: int
    in_deadline: float
    in_deadline_but_pauses: float
    before_width: float
    after_width_N: np.ndarray
    after_second_N: np.ndarray
    rung_changes: int
    value: float


def step_run(world: SimulationConfig, policy: BeamPolicyConfig, capacity: float) -> StepRun:
    """The ten-fold step in `world`."""
    planned_ms = arrivals.step(0.3 * capacity, 10, BEFORE_SECONDS, STEP_SECONDS, AFTER_SECONDS, world.seed)
    simulation = Simulation(world, policy)
    result = simulation.run(planned_ms)
    begin_ms, end_ms = 1000 * BEFORE_SECONDS, 1000 * (BEFORE_SECONDS + STEP_SECONDS)
    inside = (planned_ms >= begin_ms) & (planned_ms < end_ms)
    in_time_N = result.in_deadline_N
    width_N = _width_or_zero(result)
    after = planned_ms >= end_ms
    return StepRun(
        model=int((in_time_N & (result.source_N == MODEL))[inside].sum()),
        bound=int(servable(world, simulation.ladder, policy.max_batch, planned_ms[inside]).sum()),
        sent=int(inside.sum()),
        in_deadline=float(in_time_N.mean()),
        in_deadline_but_pauses=float((in_time_N | _due_in_a_pause(world, planned_ms)).mean()),
        before_width=float(width_N[planned_ms < begin_ms].mean()),
        after_width_N=width_N[after],
        after_second_N=(planned_ms[after] - end_ms) / 1000.0,
        rung_changes=result.rung_changes,
        value=result.figures()["value"],
    )


def base_width(world: SimulationConfig, policy: BeamPolicyConfig, capacity: float) -> tuple[float, float]:
    """At 30 % of capacity: mean width as a share of full, and the largest such share that any schedule reaches."""
    planned_ms = arrivals.poisson(0.3 * capacity, BASE_SECONDS, world.seed)
    simulation = Simulation(world, policy)
    full = simulation.ladder.rungs[simulation.ladder.full].mean_width
    share = float(_width_or_zero(simulation.run(planned_ms)).mean()) / full
    return share, allowed_full_width_share(world, simulation.ladder, policy.max_batch, planned_ms)


def neighbour(world: SimulationConfig, policy: BeamPolicyConfig, capacity: float, name: str) -> dict[str, float]:
    """Means over the seeds for the neighbour `name`."""
    world = world.model_copy(update={"slow_down": NEIGHBOURS[name], "deadline_ms": DEADLINE_MS})
    worlds = [world.model_copy(update={"seed": seed}) for seed in SEEDS]
    runs = [step_run(each, policy, capacity) for each in worlds]
    widths = np.array([base_width(each, policy, capacity) for each in worlds])
    sent, model, bound = (sum(counts) for counts in zip(*((r.sent, r.model, r.bound) for r in runs), strict=True))
    return {
        "model_share": model / sent,
        "bound": bound / sent,
        "share_of_bound": model / bound,
        "in_deadline": float(np.mean([run.in_deadline for run in runs])),
        "in_deadline_but_pauses": float(np.mean([run.in_deadline_but_pauses for run in runs])),
        "width_back_after_s": width_back_after_seconds(runs),
        "base_width_share": float(widths[:, 0].mean()),
        "base_width_share_of_bound": float(widths[:, 0].sum() / widths[:, 1].sum()),
        "rung_changes": float(np.mean([run.rung_changes for run in runs])),
        "value": float(np.mean([run.value for run in runs])),
    }


def compare(world: SimulationConfig, policy: BeamPolicyConfig) -> dict[str, dict[str, float]]:
    """Every neighbour under `policy`, whose default deadline becomes that of these requests."""
    policy = policy.model_copy(update={"default_deadline_ms": DEADLINE_MS})
    ladder = Ladder.build(world.full_widths, world.cost, config=policy.ladder)
    capacity = Controller(ladder, world.cost, policy, lambda: 0.0).full_width_capacity()
    table = {}
    for name in NEIGHBOURS:
        table[name] = neighbour(world, policy, capacity, name)
        print(f"  {name:18s} " + "  ".join(f"{key} {value:.4g}" for key, value in table[name].items()), flush=True)
    return table


def width_back_after_seconds(runs: Sequence[StepRun]) -> float:
    """From the end of the step until the mean width of all runs is again 95 % of what it was before; nan if never."""
    goal = RECOVERED_SHARE * float(np.mean([run.before_width for run in runs]))
    second_N = np.concatenate([run.after_second_N for run in runs])
    width_N = np.concatenate([run.after_width_N for run in runs])
    for begin in np.arange(0.0, AFTER_SECONDS, RECOVERY_BIN_SECONDS):
        inside = (second_N >= begin) & (second_N < begin + RECOVERY_BIN_SECONDS)
        if inside.any() and width_N[inside].mean() >= goal:
            return float(begin)
    return float("nan")


def summary(table: dict[str, dict[str, float]]) -> dict[str, float]:
    """The figures of all neighbours; in-deadline is that of the worst, less requests due in a pause."""
    shares = [row["share_of_bound"] for row in table.values()]
    beside = [row for name, row in table.items() if NEIGHBOURS[name] is not None]
    return {
        "neighbour_worst_share_of_bound": min(shares),
        "neighbour_mean_share_of_bound": float(np.mean(shares)),
        "neighbour_in_deadline": min(row["in_deadline_but_pauses"] for row in table.values()),
        "neighbour_width_back_after_s": float(np.max([row["width_back_after_s"] for row in table.values()])),
        "neighbour_base_width_share_of_bound": min(row["base_width_share_of_bound"] for row in beside),
        "no_neighbour_base_width_share": table["none"]["base_width_share"] if "none" in table else float("nan"),
    }


def _width_or_zero(result: SimulationResult) -> np.ndarray:
    in_time_N = result.in_deadline_N & (result.source_N == MODEL)
    return np.where(in_time_N, np.nan_to_num(result.width_N), 0.0)


def _due_in_a_pause(world: SimulationConfig, planned_ms_N: np.ndarray) -> np.ndarray:
    speed = Speed(world.slow_down, world.seed)
    due_ms_N = planned_ms_N + world.deadline_ms - world.reply_ms
    return np.array([speed.awake_ms(due_ms) > due_ms for due_ms in due_ms_N.tolist()], dtype=bool)
