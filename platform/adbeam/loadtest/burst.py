"""A ten-fold burst against an endpoint: full-width capacity first, then a step over it, its figures and its picture."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adbeam.loadtest.arrivals import step
from adbeam.loadtest.capacity import Capacity, find_capacity, put_in_force
from adbeam.loadtest.report import draw, summarize
from adbeam.loadtest.runner import LoadRun, LoadTarget, bodies, run_load
from adbeam.serving.deploy.local import Endpoint

BASE_SHARE = 0.3
BURST_FACTOR = 10.0
LEAST_BASE_PER_SECOND = 1.0
"""So that a burst holds requests, however slow the decodes of a busy machine are."""
BEFORE_SECONDS, BURST_SECONDS, AFTER_SECONDS = 10.0, 15.0, 12.0
SETTLE_SECONDS = 5.0
DEADLINE_MS = 150.0


def send_burst(
    endpoint: Endpoint, users: Sequence[str], now_ms: int, folder: Path, console: Console
) -> dict[str, float]:
    """Measure the full-width capacity, send a step from 30 % of it to ten times that, and draw it; returns figures.

    Where full width keeps no load inside the deadline, as beside a busy process, it says so and goes on with the rate
    that the decode times allow (`capacity_kept` 0).
    """
    target = LoadTarget(url=f"{endpoint.url}/v1/ads", deadline_ms=DEADLINE_MS, timestamp=now_ms)
    console.print(f"measuring how many requests/s full width can answer within {DEADLINE_MS:.0f} ms")
    capacity = find_capacity(endpoint, users, target)
    if not capacity.kept:
        console.print(_derived(capacity))
    base = max(BASE_SHARE * capacity.per_second, LEAST_BASE_PER_SECOND)
    put_in_force(endpoint, "deadline")
    time.sleep(SETTLE_SECONDS)
    planned_ms = step(base, BURST_FACTOR, BEFORE_SECONDS, BURST_SECONDS, AFTER_SECONDS, seed=0)
    console.print(
        f"burst: {capacity.per_second:.0f} requests/s at full width; {base:.0f}/s, then {BURST_FACTOR * base:.0f}/s "
        f"for {BURST_SECONDS:.0f} s, deadline {DEADLINE_MS:.0f} ms, {len(planned_ms)} requests"
    )
    marks = {"step": 1000 * BEFORE_SECONDS, "end": 1000 * (BEFORE_SECONDS + BURST_SECONDS)}
    load = run_load(planned_ms, bodies(users, target, len(planned_ms)), target, marks)
    picture = draw(load, folder / "burst.png", title=f"ten-fold burst, {DEADLINE_MS:.0f} ms deadline")
    console.print(f"wrote {picture}")
    kept = {"capacity": capacity.per_second, "capacity_kept": float(capacity.kept)}
    return {**kept, **burst_figures(load, marks)}


def _derived(capacity: Capacity) -> str:
    return (
        f"at full width no load was kept inside the deadline: {capacity.measured}. The machine is busy, or the "
        f"deadline too short for these beams. Going on with what the decode times allow, {capacity.per_second:.1f} "
        "requests/s; measure again when nothing else runs"
    )


def burst_figures(load: LoadRun, marks: Mapping[str, float]) -> dict[str, float]:
    """Figures of the whole run, and of the parts before, during and after the step; `marks` in ms from the start.
    A part without a request has nan."""
    whole = summarize(load)
    spans = ((0.0, marks["step"]), (marks["step"], marks["end"]), (marks["end"] + 1000 * SETTLE_SECONDS, math.inf))
    before, during, after = (defaultdict(lambda: math.nan, summarize(load, *span)) for span in spans)
    return {
        **whole,
        "width_before": before["mean_width"],
        "width_during": during["mean_width"],
        "width_after": after["mean_width"],
        "burst_in_deadline": during["in_deadline"],
        "burst_model_in_deadline": during["model_in_deadline"],
        "before_p50_ms": before["p50_ms"],
        "during_p50_ms": during["p50_ms"],
        "during_p99_ms": during["p99_ms"],
        "after_p50_ms": after["p50_ms"],
        "unanswered": float(sum(entry.status <= 0 for entry in load.requests)),
    }


def burst_table(burst: Mapping[str, float]) -> Table:
    """The figures that a reader wants first."""
    shown = Table(title="the burst", title_justify="left", show_header=False)
    lines = {
        "beam width before / during / after": f"{burst['width_before']:.1f} / {burst['width_during']:.1f} / "
        f"{burst['width_after']:.1f}",
        "answered inside the deadline (all requests sent)": f"{burst['in_deadline']:.2%}",
        "  by the model": f"{burst['model_in_deadline']:.2%}",
        "latency p50 / p95 / p99": f"{burst['p50_ms']:.0f} / {burst['p95_ms']:.0f} / {burst['p99_ms']:.0f} ms",
        "without an answer": f"{burst['unanswered']:.0f}",
    }
    for name, value in lines.items():
        shown.add_row(name, value)
    return shown
