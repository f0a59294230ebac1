"""Faults in the middle of a ten-fold step on two replicas: who was answered, who was not, how long until it is over.

`signal` suspends Serve's controller for the step: no load figures, no health checks, no new routes. `bundle` publishes
a corrupt one. `kill` is SIGKILL for the replica, `hang` SIGSTOP for the process that decodes, `store` overwrites the
history store; it comes last, because an embedded store that is gone stays gone.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from adbeam.bundle import point_current, resolve
from adbeam.loadtest import arrivals
from adbeam.loadtest.report import draw
from adbeam.loadtest.runner import LoadRun, Sent
from adbeam.workdir import WorkDir
from benchmarks.spike.endpoint import DEADLINE_MS, Spike, printed

CALM_SECONDS, STEP_SECONDS, AT_SECONDS = 5.0, 20.0, 5.0
AFTER_SECONDS = {"signal": 15.0, "bundle": 15.0, "kill": 75.0, "hang": 120.0, "store": 15.0}
GRACE_MS = 50.0
REPLICAS = 2
CALM_ANSWERS = 50
"""Requests in a row, nine of ten answered by the model in time, that count as being back to normal."""
SHOWN = ("requests", "answered", "in_grace", "refused", "unanswered", "back_s")


def faults(spike: Spike, work_dir: Path, share: float, factor: float, tables: dict[str, Any]) -> dict[str, float]:
    """Figures of each fault, `fault_<name>_*`; the step begins at `share` of the full-width capacity."""
    base_rate = share * spike.measure_capacity()
    spike.use("deadline")
    inject: dict[str, Callable[[], Callable[[], None]]] = {
        "signal": lambda: _suspended("ray::ServeController"),
        "bundle": lambda: _corrupt_bundle(WorkDir(work_dir).bundles),
        "kill": _killed,
        "hang": _hanging,
        "store": lambda: _overwritten(WorkDir(work_dir).serving / "spike.sqlite"),
    }
    rows: dict[str, dict[str, float]] = {}
    for name, cause in inject.items():
        planned_ms = arrivals.step(base_rate, factor, CALM_SECONDS, STEP_SECONDS, AFTER_SECONDS[name], seed=6)
        at_ms = 1000 * (CALM_SECONDS + AT_SECONDS)
        run = _send(spike, planned_ms, at_ms, cause)
        draw(run, f"spike_fault_{name}.png", f"{name} during a ten-fold step, {DEADLINE_MS:.0f} ms deadline")
        rows[name] = _figures(run.requests, at_ms)
    printed("faults during the ten-fold step", rows, SHOWN)
    tables["faults"] = rows
    return {f"fault_{name}_{key}": value for name, row in rows.items() for key, value in row.items()}


def _send(spike: Spike, planned_ms: np.ndarray, at_ms: float, cause: Callable[[], Callable[[], None]]) -> LoadRun:
    """Send the load, cause the fault `at_ms` into it and undo what is to be undone at its end."""
    with ThreadPoolExecutor(1) as pool:
        injected = pool.submit(_inject, cause, at_ms / 1000, CALM_SECONDS + STEP_SECONDS)
        run = spike.send(planned_ms, {"fault": at_ms, "end": 1000 * (CALM_SECONDS + STEP_SECONDS)})
        injected.result()
    return run


def _inject(cause: Callable[[], Callable[[], None]], at_seconds: float, until_seconds: float) -> None:
    """Cause the fault and lift it, at these times from now; what goes wrong here fails the benchmark."""
    time.sleep(at_seconds)
    lift = cause()
    time.sleep(until_seconds - at_seconds)
    lift()


def _figures(requests: list[Sent], at_ms: float) -> dict[str, float]:
    """Of the requests planned from the fault on: answered, within the deadline + GRACE_MS, refused, without a reply."""
    after = [entry for entry in requests if entry.planned_ms >= at_ms]
    answered = [entry for entry in after if entry.status in (200, 204)]
    in_grace = sum(entry.latency_ms <= DEADLINE_MS + GRACE_MS for entry in answered)
    return {
        "requests": float(len(after)),
        "answered": len(answered) / len(after),
        "in_grace": in_grace / len(after),
        "refused": float(sum(entry.status >= 400 for entry in after)),
        "unanswered": float(sum(entry.status <= 0 for entry in after)),
        "back_s": _back_seconds(after, at_ms),
    }


def _back_seconds(after: list[Sent], at_ms: float) -> float:
    """From the fault to the start of the first stretch of normal answers that follows the last bad one."""
    good = np.array([entry.source == "model" and entry.latency_ms <= DEADLINE_MS for entry in after])
    for place in range(len(after) - CALM_ANSWERS):
        if good[place] and all(
            part.mean() >= 0.9 for part in np.array_split(good[place:], max(len(good[place:]) // CALM_ANSWERS, 1))
        ):
            return (after[place].planned_ms - at_ms) / 1000
    return float("nan")


def _process(title: str) -> psutil.Process:
    """The process of this run's Ray whose title begins with `title`."""
    ours = psutil.Process().children(recursive=True)
    return next(process for process in ours if " ".join(process.cmdline()).startswith(title))


def _suspended(title: str) -> Callable[[], None]:
    process = _process(title)
    process.suspend()
    return process.resume


def _killed() -> Callable[[], None]:
    _process("ray::ServeReplica").kill()
    return lambda: None


def _hanging() -> Callable[[], None]:
    """SIGSTOP the decode process; Serve must find out and replace the replica, which ends it."""
    decoder = max(_process("ray::ServeReplica").children(), key=lambda child: child.create_time())
    decoder.send_signal(signal.SIGSTOP)
    return lambda: None


def _corrupt_bundle(bundles: Path) -> Callable[[], None]:
    first = resolve(bundles)
    broken = bundles / f"{first.name}-broken"
    shutil.copytree(first, broken)
    with (broken / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    point_current(bundles, broken.name)

    def undo() -> None:
        point_current(bundles, first.name)
        shutil.rmtree(broken, ignore_errors=True)

    return undo


def _overwritten(store: Path) -> Callable[[], None]:
    for file in store.parent.glob(f"{store.name}*"):
        file.write_bytes(b"no database any more " * 1000)

    def undo() -> None:
        for file in store.parent.glob(f"{store.name}*"):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()

    return undo
