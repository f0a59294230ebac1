"""Throughput of a replica's HTTP border, in this process and without Ray: `/v1/ads` and `/v1/openrtb` of one bundle.

    python benchmarks/money/border.py BUNDLE SECONDS

prints requests a second of processor time. It uses only names that adbeam has had for long, so that it runs against
another checkout too (PYTHONPATH): what is compared is everything between a request's bytes and its answer's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONCURRENT = 16


async def ask(api: Any, path: str, body: bytes) -> int:
    """The status of one POST, straight through the ASGI application."""
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "root_path": ""}  # fmt: skip
    await api(scope, receive, send)
    return status


def bodies(number: int) -> tuple[str, bytes]:
    """Every other request is a bid request."""
    user = f"user{number % 997}"
    if number % 2:
        asked: dict[str, Any] = {"user_id": user, "count": 10, "deadline_ms": 5000}
        return "/v1/ads", json.dumps(asked).encode()
    asked = {"id": f"r{number}", "imp": [{"id": "1"}], "user": {"id": user}, "tmax": 5000}
    return "/v1/openrtb", json.dumps(asked).encode()


async def drive(bundle: Path, seconds: float) -> dict[str, Any]:
    """Requests a second, and how many of each status there were."""
    from adbeam.serving.config import ServingConfig
    from adbeam.serving.deploy.policy import read_policy
    from adbeam.serving.engine.load_model import load_model
    from adbeam.serving.http.app import build_api
    from adbeam.serving.monitoring.metrics import Metrics
    from adbeam.serving.service import RecommenderService
    from adbeam.serving.stores.sqlite import SqliteStore

    config = ServingConfig.parse({"bundle": str(bundle), "cache": {"enabled": False}})
    policy, metrics = read_policy("deadline"), Metrics()
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "h.sqlite")
        service = RecommenderService(config, load_model(bundle, config, policy, store, metrics), policy, store, metrics)
        service.start()
        api, statuses, numbers = build_api(service), dict[int, int](), iter(range(10**9))
        end = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < end:
                status = await ask(api, *bodies(next(numbers)))
                statuses[status] = statuses.get(status, 0) + 1

        began = time.process_time()
        await asyncio.gather(*(client() for _ in range(CONCURRENT)))
        used = time.process_time() - began
        service.close()
    return {"per_cpu_second": sum(statuses.values()) / used, "statuses": statuses}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(drive(Path(sys.argv[1]), float(sys.argv[2])))))
