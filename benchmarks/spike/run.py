"""Traffic spikes on a live endpoint: all beam policies in one run, on the machine it runs on.

    python -m benchmarks.spike --work-dir runs/quickstart [--traces DIR] [--only step,...] [--add FILE] [--quick]

Parts: `sim` (the step below in the simulator, 100 ms; more in benchmarks.spike_simulated.run), `step` (ten-fold for
60 s from 30 % of the measured full-width capacity), `neighbour` (the same for 15 s, quiet and beside a busy process, in
turn: neighbour.py), `floor_steps` (a minute at 0.8 and 1.2 x the floor's capacity: floor_steps.py),
`reaction` (20 steps), `steady` (changes of the rung at 50, 80,
95 % of capacity), `rollout` (10 new bundles under load), `worldcup_burst`, `worldcup_match`, `azure_conv`, `azure_code`
(need --traces, a folder with `traffic_worldcup98/requests_per_minute.csv.gz` and
`traffic_azure_llm/AzureLLMInferenceTrace_*.csv.gz`; one interval a second, the busiest at 3 x capacity), `faults`
(faults.py), `tax` (HTTP against the bare engine) and `autoscale` (1 to 4 replicas with an EMULATED decode: two
cores cannot hold four busy replicas). 150 ms deadline, result cache off,
open loop; every share has all requests sent as its denominator. Late requests of the baselines wait, as their policies
say; `tabs_floor_early` is the strongest of them with the fallback in time. `value` weighs an answer in time by the
measured quality of its widths relative to full width, at most 1, a popular one by the Recall@10 of popular ads relative
to the model's on the test split; `model_value` counts answers of the model alone.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from adbeam.artifacts import MANIFEST, read_manifest, write_json
from adbeam.beams.simulation import SimulationConfig
from adbeam.bundle import point_current, resolve
from adbeam.loadtest import arrivals
from adbeam.loadtest.report import draw, reaction_ms, recovery_seconds, rung_changes
from adbeam.workdir import WorkDir
from benchmarks.rig.report import report
from benchmarks.spike.autoscale import autoscaling
from benchmarks.spike.endpoint import DEADLINE_MS, POLICIES, Spike, printed, serving
from benchmarks.spike.faults import REPLICAS, faults
from benchmarks.spike.floor_steps import on_endpoints
from benchmarks.spike.neighbour import neighbour
from benchmarks.spike.results import Results
from benchmarks.spike.tax import platform_tax
from benchmarks.spike_simulated.run import SEED, capacity_per_second, compare, read_policies, ten_fold_step

TRACES = ("worldcup_burst", "worldcup_match", "azure_conv", "azure_code")
PARTS = (
    "sim",
    "step",
    "neighbour",
    "reaction",
    "steady",
    "rollout",
    *TRACES,
    "floor_steps",
    "faults",
    "tax",
    "autoscale",
)
BASE_SHARE, FACTOR = 0.3, 10.0
SHOWN = (
    "in_deadline", "model_in_deadline", "degraded", "shed", "value", "model_value", "mean_width", "p50_ms", "p99_ms"
)  # fmt: skip
WINDOWS = {
    "worldcup_burst": ("1998-05-12 04:30", "1998-05-12 09:30"),
    "worldcup_match": ("1998-06-30 14:00", "1998-06-30 19:00"),
}


def step10(spike: Spike, seconds: float, tables: dict[str, Any]) -> dict[str, float]:
    """The same step for every policy; figures of the step itself, from its first planned request to its last."""
    planned_ms = arrivals.step(BASE_SHARE * spike.capacity, FACTOR, 10.0, seconds, 12.0, seed=0)
    marks = {"step": 10_000.0, "end": 10_000.0 + 1000 * seconds}
    rows, figures = {}, {}
    for policy in (*POLICIES, "tabs_floor_early"):
        spike.use(policy)
        run = spike.send(planned_ms, marks)
        draw(run, f"spike_step10_{policy}.png", f"ten-fold step, {policy}, {DEADLINE_MS:.0f} ms deadline")
        rows[policy] = spike.figures(run, marks["step"], marks["end"])
        rows[policy]["whole_in_deadline"] = spike.figures(run)["in_deadline"]
        if policy == "deadline":
            figures["step10_recovery_s"] = recovery_seconds(run.requests, marks["end"])
    printed("ten-fold step", rows, SHOWN)
    tables["step10"] = rows
    for policy, row in rows.items():
        names = ("in_deadline", "model_in_deadline", "shed", "value", "model_value", "mean_width")
        figures |= {f"step10_{policy}_{name}": row[name] for name in names}
    for value in ("value", "model_value"):
        ours, best = rows["deadline"][value], max(rows["tabs"][value], rows["tabs_floor"][value])
        figures[f"step10_{value}_over_tabs"] = ours / max(best, 1e-3)
        figures[f"step10_{value}_over_static"] = ours / max(rows["static"][value], 1e-3)
    return figures


def trace(
    spike: Spike, folder: Path, name: str, seconds: float, policies: Sequence[str], tables: dict[str, Any]
) -> dict[str, float]:
    """A window of recorded traffic through every one of `policies`."""
    planned_ms = trace_window(folder, name, spike.capacity, seconds)
    figures, rows = {}, {}
    for policy in policies:
        spike.use(policy)
        rows[policy] = spike.figures(spike.send(planned_ms))
        for figure in ("in_deadline", "model_in_deadline", "value", "model_value"):
            figures[f"trace_{name}_{policy}_{figure}"] = rows[policy][figure]
    printed(f"{name}: {len(planned_ms)} requests in {planned_ms[-1] / 1000:.0f} s", rows, SHOWN)
    tables[name] = rows
    return figures


def trace_window(folder: Path, name: str, capacity: float, seconds: float) -> np.ndarray:
    """Arrival times in ms, one interval of the trace a second, around the busiest interval of the window."""
    if name in WINDOWS:
        counts = arrivals.read_counts(folder / "traffic_worldcup98" / "requests_per_minute.csv.gz", *WINDOWS[name])
    else:
        kind = name.removeprefix("azure_")
        times_ms = arrivals.read_times(folder / "traffic_azure_llm" / f"AzureLLMInferenceTrace_{kind}.csv.gz")
        counts = np.bincount((times_ms // 1000).astype(int)).astype(float)
    length = min(int(seconds), len(counts))
    start = int(np.clip(counts.argmax() - length // 2, 0, len(counts) - length))
    return arrivals.replay_counts(counts[start : start + length], 1.0, 3 * capacity, seed=0)


def reaction(spike: Spike, steps: int) -> dict[str, float]:
    """Steps one after the other: to the start of the first narrower batch, and back to full width after the end."""
    spike.use("deadline")
    base = BASE_SHARE * spike.capacity
    calm, high = 12.0, 3.0
    planned_ms = arrivals.steps([(base, calm), (FACTOR * base, high)] * steps + [(base, calm)], seed=2)
    run = spike.send(planned_ms)
    begins = [1000 * (calm + place * (calm + high)) for place in range(steps)]
    parts = [
        [e for e in run.requests if begin - 2000 <= e.planned_ms < begin + 1000 * (high + calm)] for begin in begins
    ]
    reactions = [reaction_ms(part, begin) for part, begin in zip(parts, begins, strict=True)]
    recoveries = [recovery_seconds(p, b + 1000 * high) for p, b in zip(parts, begins, strict=True)]
    full = [e.decode_ms for e in run.requests if e.widths and e.widths == e.full_widths]
    return {
        "reaction_ms": _median(reactions),
        "reaction_limit_ms": max(100.0, 2 * _median(full)),
        "reaction_steps_unseen": float(sum(math.isnan(value) for value in reactions)),
        "recovery_s": _median(recoveries),
        "recovery_worst_s": max((value for value in recoveries if not math.isnan(value)), default=math.nan),
        "recovery_steps_unseen": float(sum(math.isnan(value) for value in recoveries)),
    }


def simulated_step() -> dict[str, float]:
    """The ten-fold step of benchmarks.spike_simulated.run under the `deadline` policy."""
    world, policy = SimulationConfig(seed=SEED), read_policies()["deadline"]
    planned_ms = ten_fold_step(capacity_per_second(world, policy))
    found = compare(world, {"deadline": policy}, planned_ms)["deadline"]
    return {f"sim_step10_deadline_{name}": found[name] for name in ("in_deadline", "model_in_deadline", "value")}


def steady(spike: Spike, seconds: float) -> dict[str, float]:
    """Changes of the rung a minute under steady Poisson load, after 15 s to find it."""
    figures: dict[str, float] = {}
    for percent in (50, 80, 95):
        spike.use("deadline")
        run = spike.send(arrivals.poisson(spike.capacity * percent / 100, 15 + seconds, seed=3))
        settled = [entry for entry in run.requests if entry.planned_ms >= 15_000]
        figures[f"rung_changes_per_min_{percent}"] = rung_changes(settled) * 60 / seconds
        figures[f"steady_{percent}_in_deadline"] = spike.figures(run, 15_000)["in_deadline"]
    return figures


def rollout(spike: Spike, work_dir: Path, swaps: int) -> dict[str, float]:
    """New bundles put in force one after the other under half of the full-width capacity: what failed, what served."""
    spike.use("deadline")
    bundles = WorkDir(work_dir).bundles
    first = resolve(bundles)
    copies = [bundles / f"{first.name}-swap{place}" for place in range(2)]
    for copy in copies:
        shutil.copytree(first, copy, dirs_exist_ok=True)
        manifest = read_manifest(copy, verify=False)
        write_json(copy / MANIFEST, {**manifest, "version": copy.name})
    seconds = 12.0 * swaps
    done = threading.Event()

    def swap() -> None:
        for place in range(swaps):
            point_current(bundles, copies[place % 2].name)
            if done.wait(seconds / swaps):
                return

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        run = spike.send(arrivals.poisson(0.5 * spike.capacity, seconds + 5, seed=4))
    finally:
        done.set()
        swapping.join()
        point_current(bundles, first.name)
        time.sleep(15)
        for copy in copies:
            shutil.rmtree(copy, ignore_errors=True)
    versions = [entry.model_version for entry in run.requests if entry.model_version]
    figures = spike.figures(run)
    return {
        "rollout_failed": float(sum(entry.status not in (200, 204) for entry in run.requests)),
        "rollout_swaps_seen": float(sum(a != b for a, b in itertools.pairwise(versions))),
        "rollout_in_deadline": figures["in_deadline"],
        "rollout_model_in_deadline": figures["model_in_deadline"],
    }


def _median(values: list[float]) -> float:
    """Values not seen count as infinite; nan for none at all."""
    return median(math.inf if math.isnan(value) else value for value in values) if values else math.nan


def main() -> None:
    """Run the parts asked for and write spike.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=Path("runs/quickstart"), help="with bundles and prepared")
    parser.add_argument("--traces", type=Path, help="folder of the trace files; without it no traces")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--port", type=int, default=18500)
    parser.add_argument("--window-seconds", type=float, default=300.0, help="length of a trace window")
    parser.add_argument("--add", type=Path, help="result of other parts on the same machine, kept beside these")
    parser.add_argument("--quick", action="store_true", help="short spans: for trying the benchmark, not for citing")
    parser.add_argument(
        "--runs", type=int, default=5, help="of `neighbour` and `floor_steps`; with --add those there are kept"
    )
    parser.add_argument(
        "--policies", help="of `floor_steps` (deadline,tabs_floor if not given) and of traces (there all four)"
    )
    given = parser.parse_args()
    parts = [part for part in PARTS if part in given.only.split(",")]
    policies = given.policies.split(",") if given.policies else None
    if given.traces is None and set(parts) & set(TRACES):
        parser.error(f"{', '.join(TRACES)} need --traces DIR; leave them out with --only")
    short = given.quick
    results = Results(given.add)
    if "sim" in parts:
        results.take("sim", simulated_step())
    live: dict[str, Callable[[Spike], dict[str, float]]] = {
        "step": lambda spike: step10(spike, 15.0 if short else 60.0, results.tables),
        "neighbour": lambda spike: neighbour(spike, 1 if short else given.runs, results.tables, results.keep),
        "reaction": lambda spike: reaction(spike, 2 if short else 20),
        "steady": lambda spike: steady(spike, 20.0 if short else 120.0),
        "rollout": lambda spike: rollout(spike, given.work_dir, 2 if short else 10),
    }
    for name in TRACES:
        seconds = 30.0 if short else given.window_seconds
        asked: dict[str, Any] = {"seconds": seconds, "policies": policies or POLICIES, "tables": results.tables}
        live[name] = partial(trace, folder=given.traces, name=name, **asked)
    if any(part in live for part in parts):
        with serving(given.work_dir, given.port) as spike:
            results.figures["full_width_capacity_rps"] = spike.measure_capacity()
            print(f"full-width capacity {spike.capacity:.1f} requests/s", flush=True)
            for part in (part for part in parts if part in live):
                results.take(part, live[part](spike), spike.capacity)
    if "floor_steps" in parts:
        runs, seconds = (1, 10.0) if short else (given.runs, 60.0)
        chosen = policies or ("deadline", "tabs_floor")
        figures = on_endpoints(given.work_dir, given.port, runs, seconds, chosen, results.tables, results.keep)
        results.take("floor_steps", figures)
    if "faults" in parts:
        with serving(given.work_dir, given.port, REPLICAS) as spike:
            figures = faults(spike, given.work_dir, BASE_SHARE, FACTOR, results.tables)
            results.take("faults", figures, spike.capacity)
    with tempfile.TemporaryDirectory() as folder:
        if "tax" in parts:
            results.take("tax", platform_tax(Path(folder), given.port, 5.0 if short else 20.0))
        if "autoscale" in parts:
            seconds = 60.0 if short else 180.0
            results.take("autoscale", autoscaling(Path(folder), given.port, seconds, results.tables))
    report("spike", results.figures, results.extra())
