"""Sustained five-fold load, one replica to four: demand at full width against Serve's ongoing requests.

The decode is EMULATED (benchmarks.rig.emulated); everything else is real. Serve's policy gets the number of ongoing
requests that a replica holds at the same operating point, 70 % of full width.
"""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tests.support.replicas import write_tokenized_bundle

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.controller import Controller
from adbeam.beams.ladder import Ladder
from adbeam.beams.simulation import SimulationConfig
from adbeam.loadtest import arrivals
from adbeam.loadtest.runner import LoadRun, LoadTarget, bodies, run_load
from adbeam.serving.deploy.local import start
from adbeam.workdir import WorkDir
from benchmarks.rig.emulated import COST, FULL
from benchmarks.spike.endpoint import ROOT
from benchmarks.spike_simulated.run import ongoing_at

TARGET, BASE_SHARE, FACTOR, MOST = 0.7, 0.5, 5.0, 4
BEFORE_SECONDS, AFTER_SECONDS = 15.0, 90.0
DEADLINE_MS = 400.0
DOWN_SECONDS = 20.0
POLL_SECONDS = 0.5
Timeline = list[tuple[float, int]]


def autoscaling(folder: Path, port: int, seconds: float, tables: dict[str, Any]) -> dict[str, float]:
    """Figures of both policies on the same arrivals, and `spike_autoscale.png`."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    write_tokenized_bundle(WorkDir(folder).bundles, 40)
    policy = BeamPolicyConfig.load(ROOT / "serving" / "policies" / "deadline.yaml")
    ladder = Ladder.build(FULL, COST, config=policy.ladder)
    capacity = Controller(ladder, COST, policy, lambda: 0.0).full_width_capacity()
    world = SimulationConfig(full_widths=FULL, deadline_ms=DEADLINE_MS, **asdict(COST))
    ongoing = max(1.0, ongoing_at(world, policy, TARGET * capacity))
    planned_ms = arrivals.step(BASE_SHARE * capacity, FACTOR, BEFORE_SECONDS, seconds, AFTER_SECONDS, seed=5)
    scalings: dict[str, dict[str, Any]] = {
        "demand": {
            "policy": {
                "policy_function": "adbeam.serving.autoscaling:FullWidthPolicy",
                "policy_kwargs": {
                    "target_utilisation": TARGET, "look_ahead_seconds": 10.0, "downscale_cooldown_seconds": DOWN_SECONDS
                },
            }
        },
        "default": {"target_ongoing_requests": ongoing},
    }  # fmt: skip
    runs = {name: _run(folder, port, scaling, planned_ms) for name, scaling in scalings.items()}
    _draw(runs, seconds)
    figures = {"autoscale_ongoing_at_target": ongoing, "autoscale_full_width_capacity_rps": capacity}
    for name, (run, timeline) in runs.items():
        figures |= _figures("autoscale" if name == "demand" else "autoscale_default", run, timeline, seconds)
        tables[f"autoscale_{name}_replicas"] = timeline
    ours, default = figures["autoscale_width_after_s"], figures["autoscale_default_width_after_s"]
    figures["autoscale_time_ratio"] = ours / (seconds if math.isnan(default) else default)
    return figures


def _run(folder: Path, port: int, scaling: dict[str, Any], planned_ms: np.ndarray) -> tuple[LoadRun, Timeline]:
    path = folder / "autoscale.yaml"
    config = yaml.safe_load((ROOT / "serving" / "ads.yaml").read_text(encoding="utf-8"))
    application = config["applications"][0]
    application["import_path"] = "benchmarks.rig.emulated:build"
    application["args"] = {
        "bundle": str(WorkDir(folder).bundles), "policy": str(ROOT / "serving" / "policies" / "deadline.yaml"),
        "store": {"path": str(folder / "h.sqlite")}, "cache": {"enabled": False}, "watch_seconds": 0,
    }  # fmt: skip
    deployment = application["deployments"][0]
    deployment["ray_actor_options"] = {"num_cpus": 0.1}
    deployment["autoscaling_config"] = {
        "min_replicas": 1, "max_replicas": MOST, "look_back_period_s": 2, "metrics_interval_s": 0.5,
        "upscale_delay_s": 1, "downscale_delay_s": DOWN_SECONDS, **scaling,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    endpoint = start(path, {}, port)
    timeline: Timeline = []
    done = threading.Event()
    try:
        target = LoadTarget(url=f"{endpoint.url}/v1/ads", deadline_ms=DEADLINE_MS)
        requests = bodies([f"u{n}" for n in range(100)], target, len(planned_ms))
        watching = threading.Thread(target=_watch, args=(endpoint.application, timeline, done))
        watching.start()
        run = run_load(planned_ms, requests, target)
        done.set()
        watching.join()
    finally:
        done.set()
        endpoint.stop()
    return run, timeline


def _watch(application: str, timeline: Timeline, done: threading.Event) -> None:
    from ray import serve

    began = time.monotonic()
    while not done.wait(POLL_SECONDS):
        states = serve.status().applications[application].deployments["Recommender"].replica_states
        running = sum(count for state, count in states.items() if str(getattr(state, "value", state)) == "RUNNING")
        timeline.append((time.monotonic() - began, running))


def _figures(prefix: str, run: LoadRun, timeline: Timeline, seconds: float) -> dict[str, float]:
    begin, end = BEFORE_SECONDS, BEFORE_SECONDS + seconds
    inside = [entry for entry in run.requests if begin * 1000 <= entry.planned_ms < end * 1000]
    in_time = [e for e in inside if e.status == 200 and e.latency_ms <= DEADLINE_MS]
    lengths = np.diff([moment for moment, _ in timeline], append=timeline[-1][0] + POLL_SECONDS)
    return {
        f"{prefix}_width_after_s": width_after_seconds(run, begin, end),
        f"{prefix}_in_deadline": len(in_time) / max(len(inside), 1),
        f"{prefix}_replica_seconds": float(sum(n * dt for (_, n), dt in zip(timeline, lengths, strict=True))),
        f"{prefix}_most_replicas": float(max(count for _, count in timeline)),
        f"{prefix}_replicas_at_end": float(timeline[-1][1]),
    }


def width_after_seconds(run: LoadRun, begin: float, end: float) -> float:
    """From `begin` until every later second has decoded answers, 95 % of them at full width; nan if never."""
    full_by_second: dict[int, list[bool]] = {second: [] for second in range(int(end - begin))}
    for entry in run.requests:
        if entry.widths and begin * 1000 <= entry.planned_ms < end * 1000:
            full_by_second[int(entry.planned_ms / 1000 - begin)].append(entry.widths == entry.full_widths)
    narrow = [second for second, full in full_by_second.items() if not full or sum(full) < 0.95 * len(full)]
    after = float(max(narrow) + 1) if narrow else 0.0
    return after if after < end - begin - 2 else math.nan


def _draw(runs: dict[str, tuple[LoadRun, Timeline]], seconds: float) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    replicas, width = figure.subplots(2, 1, sharex=True)
    for name, (run, timeline) in runs.items():
        label = "demand at full width" if name == "demand" else "ongoing requests (Serve's own)"
        replicas.step([moment for moment, _ in timeline], [count for _, count in timeline], where="post", label=label)
        by_second: dict[int, list[float]] = {}
        for entry in run.requests:
            if entry.widths:
                by_second.setdefault(int(entry.planned_ms // 1000), []).append(sum(entry.widths) / len(entry.widths))
        width.plot(list(by_second), [float(np.mean(values)) for values in by_second.values()], label=label)
    replicas.set_ylabel("replicas running")
    replicas.legend()
    width.set(ylabel="mean beam width", xlabel="seconds", ylim=(0, None))
    for panel in (replicas, width):
        panel.grid(alpha=0.3)
        for mark in (BEFORE_SECONDS, BEFORE_SECONDS + seconds):
            panel.axvline(mark, color="grey", linestyle=":")
    figure.suptitle(f"{FACTOR:g}-fold load for {seconds:.0f} s, EMULATED decode")
    figure.savefig("spike_autoscale.png", dpi=110)
