"""How soon an ad that one replica is told of is in the answers of two: real processes, real HTTP."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.replicas import start_replicas, stop_replicas, write_tokenized_bundle

from adbeam.serving.client import call
from adbeam.workdir import WorkDir

KEY = "benchmark"
ADS = 60


def insert_visible_ms(inserts: int = 200) -> tuple[float, float]:
    """(median, 99th percentile) of milliseconds from sending the ad to the first answers that hold it on both."""
    with tempfile.TemporaryDirectory() as name:
        folder, ports = Path(name), _free_ports(2)
        write_tokenized_bundle(WorkDir(folder).bundles, ADS)
        (folder / "keys").write_text(KEY)
        processes = start_replicas(_args(folder), ports)
        try:
            delays = [_delay_ms(ports, number) for number in range(inserts)]
        finally:
            stop_replicas(processes)
    return float(np.median(delays)), float(np.quantile(delays, 0.99))


def _delay_ms(ports: list[int], number: int) -> float:
    """Insert one ad through one replica, then take it away again."""
    item_id, seen = f"new{number}", {}

    def watch(port: int) -> None:
        while item_id not in _served(port):
            time.sleep(0.002)
        seen[port] = time.monotonic()

    watchers = [threading.Thread(target=watch, args=(port,)) for port in ports]
    for watcher in watchers:
        watcher.start()
    began = time.monotonic()
    item = {"item_id": item_id, "title": "dark coffee", "advertiser": "east", "price": 1.0 + number % 50}
    _change(ports[number % 2], {"operation": "insert", "item_id": item_id, "item": item})
    for watcher in watchers:
        watcher.join()
    _change(ports[number % 2], {"operation": "remove", "item_id": item_id})
    return (max(seen.values()) - began) * 1000


def _served(port: int) -> set[str]:
    body = {"count": 500, "deadline_ms": 20_000}
    status, answer = call(f"http://127.0.0.1:{port}", "POST", "/v1/ads", body, timeout_seconds=30)
    assert status == 200, answer
    return {ad["item_id"] for ad in answer["ads"]}


def _change(port: int, change: dict[str, Any]) -> None:
    status, answer = call(f"http://127.0.0.1:{port}", "POST", "/v1/admin/ads", {"changes": [change]}, token=KEY)
    assert status == 200, answer


def _args(folder: Path) -> dict[str, Any]:
    args = {
        "bundle": str(WorkDir(folder).bundles),
        "policy": "static",
        "deadline": {"max_ms": 20_000},
        "limits": {"count_max": 1000},
        "cache": {"enabled": False},
        "store": {"path": str(folder / "h.sqlite")},
        "admin": {"mode": "bearer", "keys_file": str(folder / "keys")},
        "updates": {"path": str(folder / "updates.sqlite")},
    }
    return dict(json.loads(json.dumps(args)))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
