"""A replica's HTTP border, in its own process and without Ray: its processor time here and in another checkout.

    python benchmarks/money/border.py BUNDLE OTHER_CHECKOUT [SLICES]

prints `money_http_ratio`: requests a second of processor time, of `/v1/ads` and `/v1/openrtb`, here over there. Both
processes are loaded once and serve in turn, REQUESTS at a time and in changing order, so that what else the machine
does weighs on both; the ratio is the median over pairs. Only names that adbeam has had for long are used, so that the
other checkout can be an old one.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[2]
SIDE, STORE, SETTINGS, BODIES = "side", "h.sqlite", "settings.json", "bodies.json"
CONCURRENT = 16
REQUESTS = 320
SLICES = 60


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


def other_bodies(path: Path) -> list[tuple[str, bytes]]:
    """The requests of a file, where it is there."""
    if not path.exists():
        return []
    return [(route, json.dumps(body).encode()) for route, body in json.loads(path.read_text())]


def start_service(bundle: Path, folder: str, settings: dict[str, Any] | None = None) -> Any:
    """The service as a replica has it, without a cache of answers and always at full width: a controller would answer
    noise of the machine with other beams here than there. `settings` are further args; its store is `folder`'s."""
    from adbeam.serving.config import ServingConfig
    from adbeam.serving.deploy.policy import read_policy
    from adbeam.serving.engine.load_model import load_model
    from adbeam.serving.monitoring.metrics import Metrics
    from adbeam.serving.service import RecommenderService
    from adbeam.serving.stores.sqlite import SqliteStore

    config = ServingConfig.parse({"bundle": str(bundle), "cache": {"enabled": False}, **(settings or {})})
    policy, metrics = read_policy("static"), Metrics()
    store = SqliteStore(Path(folder) / STORE)
    service = RecommenderService(config, load_model(bundle, config, policy, store, metrics), policy, store, metrics)
    service.start()
    return service


async def serve(bundle: Path, prepared: Path | None = None) -> None:
    """For each line of input: serve REQUESTS, say the seconds of processor time. A `prepared` folder holds the store,
    the settings, and perhaps other requests: a list of [path, body]."""
    from adbeam.serving.http.app import build_api

    with tempfile.TemporaryDirectory() as empty:
        folder = empty if prepared is None else str(prepared)
        settings = None if prepared is None else json.loads((prepared / SETTINGS).read_text())
        given = (
            [] if prepared is None or not (prepared / BODIES).exists() else json.loads((prepared / BODIES).read_text())
        )
        others = [(path, json.dumps(body).encode()) for path, body in given]
        service = start_service(bundle, folder, settings)
        api, first = build_api(service), 0
        for _ in sys.stdin:
            numbers = iter(range(first, first + REQUESTS))
            first += REQUESTS

            async def client(numbers: Any = numbers) -> None:
                for number in numbers:
                    asked = others[number % len(others)] if others else bodies(number)
                    if await ask(api, *asked) != 200:
                        raise SystemExit(f"request {number} was not answered with 200")

            began = time.process_time()
            await asyncio.gather(*(client() for _ in range(CONCURRENT)))
            print(time.process_time() - began, flush=True)
        service.close()


def side(checkout: Path, bundle: Path, *prepared: Path) -> subprocess.Popen[str]:
    """A process that serves with the adbeam of `checkout`."""
    command = [sys.executable, "-W", "ignore", __file__, SIDE, str(bundle), *map(str, prepared)]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "platform")}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def compare(sides: list[subprocess.Popen[str]], slices: int) -> dict[str, Any]:
    """Requests a second of the first side over those of the second."""

    def once(side: subprocess.Popen[str]) -> float:
        assert side.stdin is not None and side.stdout is not None
        print(file=side.stdin, flush=True)
        return float(side.stdout.readline())

    for side in sides * 3:
        once(side)
    pairs = []
    for number in range(slices):
        taken = {place: once(sides[place]) for place in ((0, 1) if number % 2 else (1, 0))}
        pairs.append((taken[0], taken[1]))
    for side in sides:
        side.communicate()
    here, there = ([REQUESTS / taken for taken in column] for column in zip(*pairs, strict=True))
    ratios = sorted(one / other for one, other in zip(here, there, strict=True))
    return {
        "http_ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        "per_cpu_second_here": statistics.median(here),
        "per_cpu_second_there": statistics.median(there),
        "pairs": slices,
    }


def main() -> None:
    """Compare, or be one side of a comparison."""
    bundle, *rest = sys.argv[1:]
    if bundle == SIDE:
        asyncio.run(serve(*map(Path, rest)))
        return
    sides = [side(checkout, Path(bundle)) for checkout in (HERE, Path(rest[0]).resolve())]
    found = compare(sides, int(rest[1]) if len(rest) > 1 else SLICES)
    print(json.dumps({"money_http_ratio": found.pop("http_ratio"), **found}, indent=1))


if __name__ == "__main__":
    main()
