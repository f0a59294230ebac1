"""One-minute steps to 0.8 and 1.2 times what the floor of the ladder can take: `deadline` over the floor of TABS.

The floor's capacity is measured as that of full width is, on a replica whose full width is the floor. Policies take
turns within a run, which has the same arrivals for all: ratios are of pairs, their intervals Student's over the runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from adbeam.loadtest import arrivals
from benchmarks.spike.endpoint import Spike, printed, serving

LOADS = {"08": 0.8, "12": 1.2}
BASE_SHARE = 0.3
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 1.0
SHOWN = ("in_deadline", "model_in_deadline", "value", "mean_width")


def on_endpoints(
    work_dir: Path, port: int, runs: int, seconds: float, policies: Sequence[str],
    tables: dict[str, Any], keep: Callable[[], None],
) -> dict[str, float]:  # fmt: skip
    """`floor_steps` with both capacities measured first, each on replicas of its own."""
    with serving(work_dir, port) as spike:
        capacity = spike.measure_capacity()
        spike.use("deadline")
        floor = spike.floor_widths()
    with serving(work_dir, port, widths=floor) as narrow:
        floor_rps = narrow.measure_capacity()
    with serving(work_dir, port) as spike:
        spike.capacity = capacity
        found = floor_steps(spike, floor_rps, runs, seconds, policies, tables, keep)
    return {"floor_capacity_rps": tables["floor_steps"]["floor_rps"], **found}


def floor_steps(
    spike: Spike, floor_rps: float, runs: int, seconds: float, policies: Sequence[str],
    tables: dict[str, Any], keep: Callable[[], None],
) -> dict[str, float]:  # fmt: skip
    """Figures of `runs` steps of every policy at both loads; runs that `tables` has are not repeated, and their floor
    stays that of the load. `keep` is called after each."""
    kept: dict[str, Any] = tables.setdefault("floor_steps", {"floor_rps": floor_rps, "rows": {}})
    for load, share in LOADS.items():
        base, rate = BASE_SHARE * spike.capacity, share * kept["floor_rps"]
        by_policy: dict[str, list[dict[str, float]]] = kept["rows"].setdefault(load, {})
        for place in range(runs):
            parts = [(base, BEFORE_SECONDS), (rate, seconds), (base, AFTER_SECONDS)]
            planned_ms = arrivals.steps(parts, seed=place)
            for policy in policies:
                rows = by_policy.setdefault(policy, [])
                if place >= len(rows):
                    spike.use(policy)
                    run = spike.send(planned_ms)
                    rows.append(spike.figures(run, 1000 * BEFORE_SECONDS, 1000 * (BEFORE_SECONDS + seconds)))
                    keep()
        means = {
            name: {key: float(np.mean([r[key] for r in rows])) for key in SHOWN} for name, rows in by_policy.items()
        }
        printed(f"steps to {share:g} x the floor", means, SHOWN)
    return figures(kept["rows"])


def figures(rows: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, float]:
    """Ratios and differences of value, run by run."""
    found: dict[str, float] = {}
    for load, by_policy in rows.items():
        value = {name: np.array([row["value"] for row in listed]) for name, listed in by_policy.items()}
        if "deadline" in value and "tabs_floor" in value:
            ratio = np.log(_paired(value["deadline"], value["tabs_floor"], np.divide))
            name = f"step_{load}_over_tabs_floor"
            mean, low, high = (math.exp(each) for each in interval(ratio))
            found |= {name: mean, f"{name}_lo": low, f"{name}_hi": high}
        if "deadline" in value and "tabs_floor_early" in value:
            name = f"step_{load}_minus_tabs_floor_early"
            mean, low, high = interval(_paired(value["deadline"], value["tabs_floor_early"], np.subtract))
            found |= {name: mean, f"{name}_lo": low, f"{name}_hi": high}
    return found


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and the 95 % interval by Student; without bounds where there is one value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, -math.inf, math.inf
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


def _paired(ours: np.ndarray, theirs: np.ndarray, how: Callable[..., Any]) -> np.ndarray:
    count = min(len(ours), len(theirs))
    result: np.ndarray = how(np.maximum(ours[:count], 1e-3), np.maximum(theirs[:count], 1e-3))
    return result
