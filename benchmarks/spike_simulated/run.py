"""The beam policies under simulated spikes: the same controller code as in a replica, in a discrete-event world.

    python -m benchmarks.spike_simulated [--traces DIR] [--a-ms A --c0-ms C0 --c1-ms-per-row C1] [--quick]

A ten-fold step of 60 s from 30 % of full-width capacity on one replica with a 100 ms deadline; steady load for the
oscillation of the rung; a five-fold load on an autoscaled fleet; 200 replicas; a step beside each of twelve
neighbours, by the bound that no schedule beats. With --traces, a folder that holds
`traffic_worldcup98/requests_per_minute.csv.gz` and `traffic_azure_llm/AzureLLMInferenceTrace_*.csv.gz` (World Cup 98:
one minute = 1 s; Azure LLM: one second = 1 s), each scaled so that its busiest interval is 3 x full-width capacity.
`*_early` is the same policy with surely-late requests answered from the fallback at once, which the plain baselines do
not.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from adbeam.beams.config import AutoscaleConfig, BeamPolicyConfig
from adbeam.beams.controller import Controller
from adbeam.beams.cost import beam_rows
from adbeam.beams.ladder import Ladder
from adbeam.beams.simulation import Simulation, SimulationConfig, SimulationResult
from adbeam.loadtest import arrivals
from benchmarks.rig.report import report
from benchmarks.spike_simulated import neighbours

POLICY_FILES = Path(__file__).parents[2] / "serving" / "policies"
POLICIES = ("deadline", "static", "tabs", "tabs_floor")
SEED = 7
TABLE = ("in_deadline", "model_in_deadline", "fallback", "shed", "value", "model_value", "mean_width", "p99_ms")


def read_policies() -> dict[str, BeamPolicyConfig]:
    """The shipped policies, and the baselines with early answers beside them."""
    shipped = {name: BeamPolicyConfig.load(POLICY_FILES / f"{name}.yaml") for name in POLICIES}
    early = {f"{name}_early": shipped[name].model_copy(update={"answer_late_early": True}) for name in POLICIES[1:]}
    return {**shipped, **early}


def capacity_per_second(world: SimulationConfig, policy: BeamPolicyConfig) -> float:
    """Requests a second one replica sustains at full width."""
    ladder = Ladder.build(world.full_widths, world.cost, config=policy.ladder)
    return Controller(ladder, world.cost, policy, lambda: 0.0).full_width_capacity()


def with_fixed_share(world: SimulationConfig, share: float) -> SimulationConfig:
    """The same cost of a full-width request, `share` of it independent of the beams: context, trunk, Python."""
    rows = beam_rows(world.full_widths)
    request_ms = world.cost.request_ms(rows)
    return world.model_copy(update={"c0_ms": share * request_ms, "c1_ms_per_row": (1 - share) * request_ms / rows})


def ten_fold_step(capacity: float) -> np.ndarray:
    """Arrival times in ms: 30 s at 30 % of capacity, 60 s at ten times that, 30 s as before."""
    return arrivals.step(0.3 * capacity, 10, 30, 60, 30, SEED)


def compare(world: SimulationConfig, policies: dict[str, BeamPolicyConfig], planned_ms: np.ndarray) -> dict[str, dict]:
    """Figures of each policy on the same arrivals."""
    table = {}
    for name, policy in policies.items():
        started = time.perf_counter()
        table[name] = Simulation(world, policy).run(planned_ms).figures()
        shown = "  ".join(f"{key} {table[name][key]:.4g}" for key in TABLE)
        print(f"  {name:17s} {shown}  ({time.perf_counter() - started:.0f} s)", flush=True)
    return table


def steady(world: SimulationConfig, policy: BeamPolicyConfig, capacity: float, minutes: float) -> dict[str, float]:
    """Rung changes a minute at 50, 80 and 95 % of capacity."""
    changes = {}
    for percent in (50, 80, 95):
        planned_ms = arrivals.poisson(capacity * percent / 100, 60 * minutes, SEED)
        figures = Simulation(world, policy).run(planned_ms).figures()
        changes[f"rung_changes_per_min_{percent}"] = figures["rung_changes"] / minutes
        changes[f"steady_{percent}_in_deadline"] = figures["in_deadline"]
        changes[f"steady_{percent}_mean_width"] = figures["mean_width"]
    return changes


def full_width_after_seconds(result: SimulationResult, since_ms: float) -> float:
    """From `since_ms` until the mean width of each second stays above 95 % of full; nan if it never does."""
    full = np.nanmax(result.width_N)
    second_N = ((result.planned_ms_N - since_ms) // 1000).astype(int)
    narrow = [s for s in range(second_N.max() + 1) if np.nanmean(result.width_N[second_N == s]) < 0.95 * full]
    last = narrow[-1] + 1 if narrow else 0
    return float(last) if last <= second_N.max() else float("nan")


def autoscaling(world: SimulationConfig, policy: BeamPolicyConfig, capacity: float) -> dict[str, float]:
    """Five-fold load for 180 s, 1 -> at most 8 replicas: by demand at full width, and by ongoing requests."""
    planned_ms = arrivals.step(0.5 * capacity, 5, 30, 180, 90, SEED)
    scale = AutoscaleConfig(max_replicas=8, target_utilisation=0.7, downscale_cooldown_seconds=30)
    ongoing = ongoing_at(world, policy, 0.7 * capacity)
    figures = {"autoscale_ongoing_at_target": ongoing}
    for name, signal in (("demand", None), ("ongoing", ongoing)):
        config = world.model_copy(update={"ongoing_at_target": signal})
        result = Simulation(config, policy, autoscale=scale).run(planned_ms)
        inside = (result.planned_ms_N >= 30_000) & (result.planned_ms_N < 210_000)
        part = SimulationResult(
            result.planned_ms_N[inside], result.answered_ms_N[inside], result.source_N[inside], result.width_N[inside],
            result.quality_N[inside], result.value_N[inside], result.deadline_ms, 0, result.replicas,
        )  # fmt: skip
        figures[f"autoscale_{name}_width_after_s"] = full_width_after_seconds(part, 30_000)
        figures[f"autoscale_{name}_replica_seconds"] = result.replica_seconds()
        figures[f"autoscale_{name}_most_replicas"] = max(count for _, count in result.replicas)
        figures[f"autoscale_{name}_replicas_at_end"] = result.replicas[-1][1]
        figures[f"autoscale_{name}_in_deadline"] = result.figures()["in_deadline"]
    return figures


def ongoing_at(world: SimulationConfig, policy: BeamPolicyConfig, rate: float) -> float:
    """Mean requests in a replica at full width under `rate` requests a second (Little's law)."""
    static = policy.model_copy(update={"policy": "static"})
    run = Simulation(world, static).run(arrivals.poisson(rate, 60, SEED))
    return rate * float(np.mean(run.answered_ms_N - run.planned_ms_N)) / 1000.0


def fleet(world: SimulationConfig, policy: BeamPolicyConfig, capacity: float, replicas: int) -> dict[str, float]:
    """A ten-fold step on a fleet that may double."""
    world = world.model_copy(update={"replicas": replicas})
    scale = AutoscaleConfig(min_replicas=replicas, max_replicas=2 * replicas)
    planned_ms = arrivals.step(0.3 * capacity * replicas, 10, 5, 10, 5, SEED)
    figures = Simulation(world, policy, autoscale=scale).run(planned_ms).figures()
    return {f"fleet_{name}": figures[name] for name in ("requests", "in_deadline", "model_in_deadline", "mean_width")}


def traces(folder: Path, capacity: float, quick: bool) -> dict[str, np.ndarray]:
    """Arrival times in ms of each trace, its busiest interval at 3 x capacity."""
    world_cup = folder / "traffic_worldcup98" / "requests_per_minute.csv.gz"
    burst = ("1998-05-12 06:33", "1998-05-12 06:48") if quick else ("1998-05-12", "1998-05-13")
    match = ("1998-06-30 15:00", "1998-06-30 17:00") if quick else ("1998-06-30", "1998-07-01")
    found = {
        name: arrivals.replay_counts(arrivals.read_counts(world_cup, *day), 1.0, 3 * capacity, SEED)
        for name, day in (("worldcup_burst", burst), ("worldcup_match", match))
    }
    for kind in ("conv", "code"):
        times_ms = arrivals.read_times(folder / "traffic_azure_llm" / f"AzureLLMInferenceTrace_{kind}.csv.gz")
        per_second = np.bincount((times_ms // 1000).astype(int))[: 300 if quick else None]
        found[f"azure_{kind}"] = arrivals.replay_counts(per_second, 1.0, 3 * capacity, SEED)
    return found


def main() -> None:
    """Run all and write spike_simulated.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, help="folder of the trace files; without it only synthetic load")
    parser.add_argument("--quick", action="store_true", help="cut the traces to their bursts")
    defaults = SimulationConfig()
    for name in ("a_ms", "c0_ms", "c1_ms_per_row", "fallback_quality"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name))
    given = parser.parse_args()
    world = SimulationConfig(
        a_ms=given.a_ms, c0_ms=given.c0_ms, c1_ms_per_row=given.c1_ms_per_row, seed=SEED,
        fallback_quality=given.fallback_quality,
    )  # fmt: skip
    policies = read_policies()
    capacity = capacity_per_second(world, policies["deadline"])
    print(f"full-width capacity {capacity:.1f} requests/s")
    figures: dict[str, float] = {"full_width_capacity_rps": capacity}
    tables = {"step10": compare(world, policies, ten_fold_step(capacity))}
    for name, row in tables["step10"].items():
        figures |= {f"step10_{name}_{key}": row[key] for key in ("in_deadline", "model_in_deadline", "value")}
    for percent in (25, 40):
        fixed = with_fixed_share(world, percent / 100)
        step_ms = ten_fold_step(capacity_per_second(fixed, policies["deadline"]))
        print(f"step10 where {percent} % of a full-width request does not depend on its beams")
        tables[f"step10_fixed{percent}"] = compare(fixed, policies, step_ms)
        for name, row in tables[f"step10_fixed{percent}"].items():
            figures |= {f"step10_fixed{percent}_{name}_{key}": row[key] for key in ("in_deadline", "value")}
    figures["sim_step10_deadline_in_deadline"] = figures["step10_deadline_in_deadline"]
    slower_deadline = world.model_copy(update={"deadline_ms": 150.0})
    figures |= steady(slower_deadline, policies["deadline"], capacity, minutes=4)
    figures |= autoscaling(world, policies["deadline"], capacity)
    figures |= fleet(world, policies["deadline"], capacity, replicas=200)
    tables["neighbours"] = neighbours.compare(world, policies["deadline"])
    figures |= neighbours.summary(tables["neighbours"])
    for name, planned_ms in (traces(given.traces, capacity, given.quick) if given.traces else {}).items():
        print(f"{name}: {len(planned_ms)} requests in {planned_ms[-1] / 1000:.0f} s")
        tables[name] = compare(world, policies, planned_ms)
        for policy, row in tables[name].items():
            figures |= {f"trace_{name}_{policy}_{key}": row[key] for key in ("in_deadline", "value")}
    report("spike_simulated", figures, {"settings": world.model_dump(), "tables": tables})
