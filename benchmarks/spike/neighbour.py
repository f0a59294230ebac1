"""Beside a neighbour: the ten-fold step while another process keeps core 0 busy, and the same quiet, in turn.

The load is fixed by the full-width capacity measured without the neighbour. The neighbour is one busy loop on core 0 at
nice 0, there from before the first request to after the last. Shares are of the step itself; the width of the base load
is the mean over its seconds but the first two, as a share of full width. Every figure is the median of the runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import Any

import numpy as np

from adbeam.loadtest import arrivals
from adbeam.loadtest.report import mean_width, recovery_seconds
from adbeam.loadtest.runner import LoadRun
from benchmarks.spike.endpoint import Spike, printed

BASE_SHARE, FACTOR = 0.3, 10.0
BEFORE_SECONDS, STEP_SECONDS, AFTER_SECONDS = 8.0, 15.0, 10.0
SETTLED_SECONDS = 2.0
CORE = 0
BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint('busy', flush=True)\nwhile True: pass"
SHOWN = ("in_deadline", "model_in_deadline", "recovery_s", "base_width_share", "processor_share")
Rows = dict[str, list[dict[str, float]]]


def neighbour(spike: Spike, runs: int, tables: dict[str, Any], keep: Callable[[], None]) -> dict[str, float]:
    """Figures of `runs` steps quiet and as many beside the neighbour; runs that `tables` has already are not repeated,
    and their capacity stays that of the load. `keep` is called after each."""
    kept: dict[str, Any] = tables.setdefault("neighbour", {"capacity_rps": spike.capacity, "quiet": [], "beside": []})
    base_rate = BASE_SHARE * kept["capacity_rps"]
    spike.use("deadline")
    for place in range(runs):
        planned_ms = arrivals.step(base_rate, FACTOR, BEFORE_SECONDS, STEP_SECONDS, AFTER_SECONDS, seed=place)
        for name in ("quiet", "beside"):
            if place >= len(kept[name]):
                kept[name].append(_measured(spike, planned_ms, name == "beside"))
                keep()
    rows: Rows = {name: kept[name][:runs] for name in ("quiet", "beside")}
    printed("beside a neighbour", {name: medians(found) for name, found in rows.items()}, SHOWN)
    return figures(rows)


def figures(rows: Rows) -> dict[str, float]:
    """What the runs come to."""
    quiet, beside = medians(rows["quiet"]), medians(rows["beside"])
    return {
        "neighbour_live_in_deadline": beside["in_deadline"],
        "neighbour_live_model_in_deadline": beside["model_in_deadline"],
        "neighbour_live_recovery_s": beside["recovery_s"],
        "neighbour_live_base_width_share": beside["base_width_share"],
        "neighbour_live_processor_share": beside["processor_share"],
        "quiet_in_deadline": quiet["in_deadline"],
        "quiet_model_in_deadline": quiet["model_in_deadline"],
        "quiet_base_width_share": quiet["base_width_share"],
    }


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """The median of every figure; a recovery that was not seen (nan) counts as endless."""
    return {name: median(np.nan_to_num(row[name], nan=np.inf) for row in rows) for name in SHOWN}


def step_figures(spike: Spike, run: LoadRun) -> dict[str, float]:
    """Figures of one run."""
    begin_ms, end_ms = 1000 * BEFORE_SECONDS, 1000 * (BEFORE_SECONDS + STEP_SECONDS)
    calm = [e for e in run.requests if 1000 * SETTLED_SECONDS <= e.planned_ms < begin_ms and e.widths]
    full = next((sum(e.full_widths) / len(e.full_widths) for e in run.requests if e.full_widths), 1.0)
    width = float(np.mean([mean_width(entry) for entry in calm])) if calm else 0.0
    found = spike.figures(run, begin_ms, end_ms)
    return {**found, "recovery_s": recovery_seconds(run.requests, end_ms), "base_width_share": width / full}


def _measured(spike: Spike, planned_ms: np.ndarray, beside: bool) -> dict[str, float]:
    with busy_neighbour(CORE) if beside else nullcontext(None) as process:
        began, began_s = os.times().elapsed, 0.0 if process is None else _processor_seconds(process.pid)
        run = spike.send(planned_ms)
        used_s = 0.0 if process is None else _processor_seconds(process.pid) - began_s
        share = used_s / max(os.times().elapsed - began, 1e-9)
    return {**step_figures(spike, run), "processor_share": share}


@contextmanager
def busy_neighbour(core: int) -> Iterator[subprocess.Popen[str]]:
    """One process in an endless loop on `core`; it has begun, and is ended by its own id."""
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(core)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"the neighbour could not be put on core {core}")
        yield process
    finally:
        process.kill()
        process.communicate()


def _processor_seconds(pid: int) -> float:
    import psutil

    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)
