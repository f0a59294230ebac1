"""The whole loop in one call: log -> tokens -> training -> bundle -> endpoint -> traffic burst -> recovery."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from adbeam.config import Config
from adbeam.serving.capacity import measure_capacity, put_in_force
from adbeam.serving.client import print_ads, request_ads
from adbeam.serving.launch import Endpoint, of_work_dir, start
from adbeam.serving.loadreport import draw, summarize
from adbeam.serving.loadtest import LoadRun, LoadTarget, bodies, run_load
from adbeam.serving.switches import LOCAL_SWITCHES, SWITCHES

BASE_SHARE = 0.3
BURST_FACTOR = 10.0
BEFORE_SECONDS, BURST_SECONDS, AFTER_SECONDS = 10.0, 15.0, 12.0
SETTLE_SECONDS = 5.0
DEADLINE_MS = 150.0
SHOWN_USERS = 3

console = Console()


@dataclass
class QuickstartResult:
    """What the quickstart measured, by figure name."""

    seconds: dict[str, float] = field(default_factory=dict)
    table: dict[str, dict[str, float]] = field(default_factory=dict)
    burst: dict[str, float] = field(default_factory=dict)


def run(config: Config, *, serving_yaml: Path, port: int = 8000, keep: bool = False) -> QuickstartResult:
    """Run every step on `config`, serve, send a burst, and stop what was started (unless `keep`)."""
    for name, value in {"RAY_AUTH_MODE": "token", **SWITCHES, **LOCAL_SWITCHES}.items():
        os.environ.setdefault(name, value)
    result = QuickstartResult()
    with _ray():
        _learn(config, result)
        with _step("serve", result):
            endpoint = start(serving_yaml, _serving_overrides(config), port)
        try:
            users, now_ms = _active_users(config)
            _show_requests(endpoint, users, now_ms)
            with _step("burst", result):
                result.burst = burst(endpoint, users, now_ms, Path(config.work_dir))
            _print_summary(result)
            if keep:
                _keep(endpoint)
        finally:
            endpoint.stop()
    return result


def burst(endpoint: Endpoint, users: list[str], now_ms: int, folder: Path) -> dict[str, float]:
    """Measure the full-width capacity, send a step from 30 % of it to ten times that, and draw it; returns figures."""
    from adbeam.serving.arrivals import step

    target = LoadTarget(url=f"{endpoint.url}/v1/ads", deadline_ms=DEADLINE_MS, timestamp=now_ms)
    console.print(f"measuring how many requests/s full width can answer within {DEADLINE_MS:.0f} ms")
    capacity = measure_capacity(endpoint, users, target)
    base = BASE_SHARE * capacity
    put_in_force(endpoint, "deadline")
    time.sleep(SETTLE_SECONDS)
    planned_ms = step(base, BURST_FACTOR, BEFORE_SECONDS, BURST_SECONDS, AFTER_SECONDS, seed=0)
    console.print(
        f"burst: {capacity:.0f} requests/s at full width; {base:.0f}/s, then {BURST_FACTOR * base:.0f}/s for "
        f"{BURST_SECONDS:.0f} s, deadline {DEADLINE_MS:.0f} ms, {len(planned_ms)} requests"
    )
    marks = {"step": 1000 * BEFORE_SECONDS, "end": 1000 * (BEFORE_SECONDS + BURST_SECONDS)}
    load = run_load(planned_ms, bodies(users, target, len(planned_ms)), target, marks)
    picture = draw(load, folder / "burst.png", title=f"ten-fold burst, {DEADLINE_MS:.0f} ms deadline")
    console.print(f"wrote {picture}")
    return {"capacity": capacity, **_burst_figures(load, marks)}


def _burst_figures(load: LoadRun, marks: dict[str, float]) -> dict[str, float]:
    whole = summarize(load)
    before, during = summarize(load, 0.0, marks["step"]), summarize(load, marks["step"], marks["end"])
    after = summarize(load, marks["end"] + 1000 * SETTLE_SECONDS)
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


def _learn(config: Config, result: QuickstartResult) -> None:
    from adbeam.evaluation.evaluate import evaluate
    from adbeam.logs import prepare
    from adbeam.tokens import tokenize
    from adbeam.training import export, train

    with _step("prepare", result):
        prepare(config)
    with _step("tokenize", result):
        tokenize(config)
    with _step("train", result):
        train(config)
    with _step("export", result):
        export(config)
    with _step("evaluate", result):
        result.table = evaluate(config, "test")


def _serving_overrides(config: Config) -> dict[str, Any]:
    # The burst must be answered by beams, not by answers kept from before it.
    return {**of_work_dir(Path(config.work_dir)), "cache.enabled": False}


def _active_users(config: Config, most: int = 500) -> tuple[list[str], int]:
    """(users with a request to judge, the moment after the last of these requests): the log is of the past."""
    from adbeam.evaluation.evaluate import judged_requests
    from adbeam.logs.prepared import PreparedLog

    requests = judged_requests(PreparedLog.open(Path(config.work_dir) / "prepared", verify=False), "test", None)
    users = list(dict.fromkeys(request.sequence.user_id for request in requests))
    return users[:most], max(request.now_ms for request in requests) + 1


def _show_requests(endpoint: Endpoint, users: list[str], now_ms: int) -> None:
    for user in [*users[:SHOWN_USERS], "somebody-new"]:
        answer = request_ads(endpoint.url, {"user_id": user, "count": 5, "deadline_ms": 1000, "timestamp": now_ms})
        print_ads(answer, title=f"ads for user {user}", console=console)


def _print_summary(result: QuickstartResult) -> None:
    shown = Table(title="the burst", title_justify="left", show_header=False)
    burst = result.burst
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
    console.print(shown)
    console.print("seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in result.seconds.items()))


def _keep(endpoint: Endpoint) -> None:
    console.print(f"serving on {endpoint.url}/v1/ads until Ctrl-C")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        pass


@contextmanager
def _step(name: str, result: QuickstartResult) -> Iterator[None]:
    console.rule(f"[bold]{name}")
    began = time.monotonic()
    yield
    result.seconds[name] = time.monotonic() - began


@contextmanager
def _ray() -> Iterator[None]:
    """One Ray of its own for all steps, whatever else runs on this machine; or the one that RAY_ADDRESS names."""
    import ray

    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    cpus = int(np.clip(os.cpu_count() or 1, 4, 16))
    own: dict[str, Any] = {"address": "local", "num_cpus": cpus, "object_store_memory": 1 << 30}
    started = {} if "RAY_ADDRESS" in os.environ else {**own, "include_dashboard": False}
    ray.init(logging_level=logging.WARNING, log_to_driver=False, **started)
    try:
        yield
    finally:
        ray.shutdown()
