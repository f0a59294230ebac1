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

from adbeam.config import Config
from adbeam.loadtest.burst import burst_table, send_burst
from adbeam.serving.client import print_ads, request_ads
from adbeam.serving.deploy.environment import LOCAL_SWITCHES, SWITCHES
from adbeam.serving.deploy.local import Endpoint, of_work_dir, start
from adbeam.serving.deploy.ports import host_switches
from adbeam.workdir import WorkDir

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
    if "RAY_ADDRESS" not in os.environ:
        os.environ.update(host_switches(os.environ, "127.0.0.1"))
    result = QuickstartResult()
    with _ray():
        _learn(config, result)
        with _step("serve", result):
            endpoint = start(serving_yaml, _serving_overrides(config), port)
        try:
            users, now_ms = _active_users(config)
            _show_requests(endpoint, users, now_ms)
            with _step("burst", result):
                result.burst = send_burst(endpoint, users, now_ms, Path(config.work_dir), console)
            console.print(burst_table(result.burst))
            console.print("seconds: " + ", ".join(f"{name} {spent:.0f}" for name, spent in result.seconds.items()))
            if keep:
                _keep(endpoint)
        finally:
            endpoint.stop()
    return result


def _learn(config: Config, result: QuickstartResult) -> None:
    from adbeam.evaluation.evaluate import evaluate
    from adbeam.export import export
    from adbeam.logs import prepare
    from adbeam.tokens import tokenize
    from adbeam.training import train

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

    requests = judged_requests(PreparedLog.open(WorkDir.of(config.work_dir).prepared, verify=False), "test", None)
    users = list(dict.fromkeys(request.sequence.user_id for request in requests))
    return users[:most], max(request.now_ms for request in requests) + 1


def _show_requests(endpoint: Endpoint, users: list[str], now_ms: int) -> None:
    for user in [*users[:SHOWN_USERS], "somebody-new"]:
        answer = request_ads(endpoint.url, {"user_id": user, "count": 5, "deadline_ms": 1000, "timestamp": now_ms})
        print_ads(answer, title=f"ads for user {user}", console=console)


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
