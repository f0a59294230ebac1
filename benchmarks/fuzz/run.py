"""Bodies that no client should send, over raw HTTP to a real replica: nothing may fail inside.

    python -m benchmarks.fuzz [--bodies 200000] [--workers 4] [--port 18590]

A corpus of valid and nearly valid bodies for every POST route is mutated (seeded): bytes cut, doubled, spliced in and
flipped, and values of a parsed body replaced by others of wrong type or size. Every answer must be below 500, or the
replica's own 503 with Retry-After; at the end both processes of the replica must live, answer a good request, and hold
no more memory than after the first tenth.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from tests.support.replicas import start_replicas, stop_replicas, write_tokenized_bundle

from adbeam.workdir import WorkDir
from benchmarks.rig.report import report
from benchmarks.rig.torn import torn

MOST_GROWTH_MIB = 64.0
ADMIN_KEY = "fuzz-admin-key"
GOOD = {"user_id": "u", "count": 3, "deadline_ms": 1000}
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
CORPUS: dict[str, tuple[Any, ...]] = {
    "/v1/ads": (
        GOOD,
        {"history": [{"item_id": "ad1", "timestamp": 5, "action": "click", "item_kind": "ad", "value": 1.5}] * 3},
        {"filters": {"blocked_item_ids": ["ad1"], "blocked_advertisers": ["north"], "exclude_seen": True}, "value": 2},
        {"scene": "display", "request_id": "r", "timestamp": 1_700_000_000_000},
    ),
    "/v1/openrtb": (
        {"id": "r", "imp": [{"id": "1", "bidfloor": 0.5, "banner": {"w": 300}}], "tmax": 500, "user": {"id": "u"}},
        {"id": "r", "imp": [{"id": "1"}, {"id": "2", "tagid": "display"}], "badv": ["north"], "cur": ["USD"]},
        {"id": "r", "imp": [{"id": "1", "video": {"mimes": ["video/mp4"], "battr": [1]}, "pmp": {"private_auction": 1,
         "deals": [{"id": "d", "bidfloor": 1.5, "wseat": ["adbeam"], "wadomain": ["a.example"]}]}}],
         "wseat": ["adbeam"], "bapp": ["a"], "cattax": 1, "source": {"schain": {"complete": 1, "nodes": []}},
         "user": {"eids": [{"source": "a.example", "uids": [{"id": "u"}]}]}},
    ),
    "/v1/events": (
        {"events": [{"event_id": "e", "request_id": "r", "user_id": "u", "timestamp": 1, "item_id": "ad1",
                     "action": "conversion", "price": 4.5}]},
    ),
    "/v1/admin/ads": ({"changes": [{"operation": "pause", "item_id": "ad1"}]},),
}  # fmt: skip
SPLICES = (
    b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'""', b'"\\u0000"', b'"\\ud800"', b"\xff", b"\x00", b"[" * 300,
    b"9" * 400, b'{"count":', b"true", b",", b'"', b"\\", b"\r\n\r\n", b"\xef\xbb\xbf", b"1" + b"0" * 25,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 70, 1.5, 1e300, "", "x" * 5000, "\x00", "né", [], {}, [[[]]], {"a": {}}, "1", "nan",
)  # fmt: skip


def mutated(rng: random.Random) -> tuple[str, bytes]:
    """(route, body): one of the corpus, changed in its values, its bytes or both."""
    route = rng.choice(tuple(CORPUS))
    value = json.loads(json.dumps(rng.choice(CORPUS[route])))
    if rng.random() < 0.6:
        _change(value, rng)
    return route, torn(json.dumps(value).encode(), rng, rng.choice((0, 0, 1, 2, 4)), SPLICES)


def _change(value: Any, rng: random.Random) -> None:
    """Replace, remove or add one value somewhere in a parsed body."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and rng.random() < 0.7:
            value = value[key]
            continue
        if rng.random() < 0.1 and isinstance(value, dict):
            value["unknown"] = value.pop(key)
        else:
            value[key] = rng.choice(VALUES)
        return


class Sender(threading.Thread):
    """Sends bodies one after the other over a kept connection and notes what came back."""

    def __init__(self, port: int, seed: int, bodies: int) -> None:
        super().__init__(daemon=True)
        self.statuses: Counter[int] = Counter()
        self.wrong: list[tuple[str, bytes, str]] = []
        self._port, self._rng, self._bodies = port, random.Random(seed), bodies

    def run(self) -> None:
        """Send all."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        for _ in range(self._bodies):
            route, body = mutated(self._rng)
            try:
                connection.request("POST", route, body, HEADERS)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append((route, body, repr(error)))
                connection.close()
                continue
            self.statuses[answer.status] += 1
            if answer.status >= 500 and not (answer.status == 503 and answer.headers.get("Retry-After")):
                self.wrong.append((route, body, str(answer.status)))


def memory_mib(process: psutil.Process) -> float:
    """Resident memory of a process and its children."""
    return sum(part.memory_info().rss for part in (process, *process.children(recursive=True))) / 2**20


def fuzz(port: int, process: psutil.Process, bodies: int, workers: int) -> tuple[dict[str, float], list[Any]]:
    """Figures, and what was answered wrongly."""
    figures: dict[str, float] = {}
    wrong: list[Any] = []
    statuses: Counter[int] = Counter()
    children = {child.pid for child in process.children()}
    for name, share in (("first", 0.1), ("rest", 0.9)):
        senders = [Sender(port, 1000 * len(figures) + place, int(bodies * share / workers)) for place in range(workers)]
        started = time.perf_counter()
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
            statuses += sender.statuses
            wrong += sender.wrong
        figures[f"fuzz_{name}_memory_mib"] = memory_mib(process)
        figures["fuzz_bodies_per_second"] = bodies * share / (time.perf_counter() - started)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/healthz")
    health = connection.getresponse()
    health.read()
    connection.request("POST", "/v1/ads", json.dumps(GOOD))
    good = connection.getresponse()
    source = json.loads(good.read())["served"]["source"] if good.status == 200 else None
    figures |= {
        "fuzz_bodies": float(sum(statuses.values())),
        "fuzz_5xx": float(len(wrong)),
        "fuzz_503_with_retry_after": float(statuses[503]),
        "fuzz_accepted_share": sum(statuses[status] for status in (200, 202, 204)) / max(sum(statuses.values()), 1),
        "fuzz_dead_processes": float(len(children - {child.pid for child in process.children()})),
        "fuzz_good_request_after": float(source == "model" and health.status == 200),
        "fuzz_memory_growth_mib": figures["fuzz_rest_memory_mib"] - figures["fuzz_first_memory_mib"],
    }
    return figures, [[route, body.decode("latin-1"), what] for route, body, what in wrong[:100]]


def main() -> None:
    """Start a replica, fuzz it and write fuzz.json; exits with 1 when an answer was wrong or the replica suffered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--port", type=int, default=18590)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_tokenized_bundle(WorkDir.of(folder).bundles, 300)
        args = {
            "bundle": f"{folder}/bundles", "store": {"path": f"{folder}/h.sqlite"},
            "event_log": {"folder": f"{folder}/events"}, "admin": {"mode": "bearer", "keys_file": f"{folder}/keys"},
        }  # fmt: skip
        Path(folder, "keys").write_text(ADMIN_KEY + "\n", encoding="utf-8")
        processes = start_replicas(args, [given.port])
        try:
            figures, wrong = fuzz(given.port, psutil.Process(processes[0].pid), given.bodies, given.workers)
        finally:
            stop_replicas(processes)
    report("fuzz", figures, {"wrong": wrong})
    growth_mib, alive = figures["fuzz_memory_growth_mib"], not figures["fuzz_dead_processes"]
    healthy = alive and figures["fuzz_good_request_after"] and growth_mib < MOST_GROWTH_MIB
    raise SystemExit(0 if healthy and not wrong else 1)
