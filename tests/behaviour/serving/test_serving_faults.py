"""Faults while requests come: a replica killed, a decode that hangs, the history store gone, a corrupt new bundle.

One replica is a process of its own, as Serve runs it, without Ray: Serve's part, to replace a replica whose health
check fails and to answer 5xx for a killed one, is in tests/integration.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.support.replicas import start_replicas, stop_replicas, write_tokenized_bundle

from adbeam.loadtest import arrivals
from adbeam.loadtest.runner import LoadRun, LoadTarget, bodies, run_load
from adbeam.serving.client import call

pytestmark = pytest.mark.alone

PORT = 18560
URL = f"http://127.0.0.1:{PORT}"
DEADLINE_MS = 1500.0


class Running:
    """A replica under test, with the processes and files that faults hit."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bundles = folder, folder / "bundles"
        self.first = write_tokenized_bundle(self.bundles, 200)
        args = {
            "bundle": str(self.bundles), "watch_seconds": 0.2, "cache": {"enabled": False},
            "store": {"path": str(folder / "h.sqlite")}, "engine": {"stuck_seconds": 2.0, "calibration_seconds": 0.3},
            "policy": {"policy": "deadline", "margin_ms": 100.0, "default_deadline_ms": DEADLINE_MS},
        }  # fmt: skip
        self.process = psutil.Process(start_replicas(args, [PORT])[0].pid)

    @property
    def decoder(self) -> psutil.Process:
        """The decode process that came last."""
        return max(self.process.children(), key=lambda child: child.create_time())

    def load(self, seconds: float, rate: float = 25.0) -> LoadRun:
        target = LoadTarget(url=f"{URL}/v1/ads", deadline_ms=DEADLINE_MS, timeout_ms=10_000)
        planned_ms = arrivals.constant(rate, seconds)
        return run_load(planned_ms, bodies([f"u{n}" for n in range(20)], target, len(planned_ms)), target)


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("faults"))
    yield running
    stop_replicas([running.process])


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def health() -> tuple[int, Any]:
    return call(URL, "GET", "/healthz")


def sources(run: LoadRun) -> set[str]:
    return {entry.source for entry in run.requests}


def all_answered(run: LoadRun) -> bool:
    return {entry.status for entry in run.requests} == {200}


def test_without_the_history_store_users_are_unknown_and_answered(replica: Running) -> None:
    assert all_answered(replica.load(1.0))
    for left in replica.folder.glob("h.sqlite*"):
        left.write_bytes(b"no database any more " * 1000)
    run = replica.load(1.0)
    assert all_answered(run) and "model" in sources(run)
    event = {
        "event_id": "e", "request_id": "r", "user_id": "u", "timestamp": 1, "item_id": "ad1", "action": "click",
    }  # fmt: skip
    status, problem = call(URL, "POST", "/v1/events", {"events": [event]})
    assert status == 503 and "history store" in problem["detail"]
    assert health()[0] == 200


def test_a_corrupt_new_bundle_leaves_the_old_one_serving(replica: Running) -> None:
    broken = write_tokenized_bundle(replica.folder / "staging", 200, seed=1)
    weights = bytearray((broken / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (broken / "model.safetensors").write_bytes(weights)
    broken.rename(replica.bundles / broken.name)
    (replica.bundles / "CURRENT").write_text(broken.name)
    run = replica.load(4.0)
    assert all_answered(run) and {entry.model_version for entry in run.requests} == {replica.first.name}
    until(lambda: len(replica.process.children()) == 1)
    (replica.bundles / "CURRENT").write_text(replica.first.name)


def test_while_a_decode_hangs_every_request_is_answered_by_its_deadline_and_the_health_check_fails(
    replica: Running,
) -> None:
    decoder = replica.decoder
    decoder.suspend()
    try:
        run = replica.load(3.0)
        assert all_answered(run) and "fallback" in sources(run)
        degraded = [entry for entry in run.requests if entry.degraded]
        assert max(entry.latency_ms for entry in degraded) < DEADLINE_MS + 1000
        assert health()[0] == 503 and "running for more than" in health()[1]["detail"]
    finally:
        decoder.resume()
    until(lambda: health()[0] == 200)
    until(lambda: sources(replica.load(1.0)) == {"model"})


def test_when_the_decode_process_dies_requests_get_the_fallback_and_serve_is_told(replica: Running) -> None:
    os.kill(replica.decoder.pid, signal.SIGKILL)
    run = replica.load(1.0)
    assert all_answered(run) and sources(run) <= {"model", "fallback"} and run.requests[-1].source == "fallback"
    assert health()[0] == 503
    latencies = np.array([entry.latency_ms for entry in run.requests[-10:]])
    assert float(np.median(latencies)) < DEADLINE_MS, "nobody waits for a decoder that is gone"


def test_a_killed_replica_leaves_no_decode_process_behind(replica: Running) -> None:
    decoders = replica.process.children()
    replica.process.kill()
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in decoders))
