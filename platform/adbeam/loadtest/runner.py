"""The load generator, open loop over HTTP: every arrival is fixed in advance, lateness counts from the planned time.

A slow server does not lower the load it is offered. In-flight requests and the time of each are bounded; a request is
sent again only if its connection closed before any byte of a reply came (an idle connection dropped by a reloading
proxy).
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import uvloop
from pydantic import Field

from adbeam.errors import UserError
from adbeam.loadtest.connections import Broken, HttpPool, NoConnection
from adbeam.settings import Section

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
UNSENT, TIMED_OUT, NO_CONNECTION, BROKEN = 0, -1, -2, -3
"""Stand-ins for the HTTP status of a request without an answer."""
LEAST_DEADLINE_MS = 10.0


class LoadTarget(Section):
    """Where the load goes and what a request asks for. What is left of the deadline when a request is sent goes with it
    (X-Deadline-Ms), so that the client's own delay is not the server's to spend."""

    url: str = "http://127.0.0.1:8000/v1/ads"
    allow_host: str | None = None
    token: str | None = None
    scene: str | None = None
    count: int = 10
    deadline_ms: float = 100.0
    timestamp: int | None = Field(None, description="Moment asked about, ms UTC, for users of an old log; default now.")
    timeout_ms: float = 2000.0
    max_in_flight: int = 1024

    def checked(self) -> LoadTarget:
        """Itself; raises UserError for a host that is not this machine and not `allow_host`."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError("a load test needs an http(s) URL", field="url", value=self.url)
        if parts.hostname not in LOCAL_HOSTS and parts.hostname != self.allow_host:
            raise UserError(
                "load is sent only to this machine unless the host is allowed by name",
                field="url",
                value=self.url,
                remedy=f"pass --allow-host {parts.hostname} if that server is yours to load",
            )
        return self


@dataclass(slots=True)
class Sent:
    """One request. Times are milliseconds from the start; `status` 0 or less says why there was no answer."""

    planned_ms: float
    sent_ms: float = float("nan")
    answered_ms: float = float("nan")
    status: int = UNSENT
    source: str = ""
    rung: int | None = None
    widths: tuple[int, ...] | None = None
    full_widths: tuple[int, ...] | None = None
    degraded: bool = False
    queue_ms: float = float("nan")
    decode_ms: float = float("nan")
    model_version: str = ""
    retried: bool = False

    @property
    def latency_ms(self) -> float:
        """From the planned time to the last byte; nan without an answer."""
        return self.answered_ms - self.planned_ms


@dataclass
class LoadRun:
    """All requests of a run in planned order, and what the client itself used."""

    requests: list[Sent]
    deadline_ms: float
    client_cpu_seconds: float = 0.0
    marks: dict[str, float] = field(default_factory=dict)


def bodies(users: Sequence[str], target: LoadTarget, count: int, seed: int = 0) -> list[bytes]:
    """`count` encoded request bodies for users drawn with replacement from `users` (repeat a user to weigh it)."""
    if not users:
        raise UserError("a load test needs at least one user", field="users")
    common: dict[str, Any] = {"count": target.count, "deadline_ms": target.deadline_ms}
    if target.timestamp is not None:
        common["timestamp"] = target.timestamp
    if target.scene is not None:
        common["scene"] = target.scene
    draw = random.Random(seed)
    known: dict[str, bytes] = {}
    encoded = []
    for user in draw.choices(users, k=count):
        if user not in known:
            known[user] = json.dumps({"user_id": user, **common}).encode()
        encoded.append(known[user])
    return encoded


def run_load(
    planned_ms: np.ndarray, requests: Sequence[bytes], target: LoadTarget, marks: Mapping[str, float] | None = None
) -> LoadRun:
    """Send `requests[i]` at `planned_ms[i]` and wait for every answer; blocks. `marks` (name -> ms) go to the
    report."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(send_load(planned_ms, requests, target, marks))


async def send_load(
    planned_ms: np.ndarray, requests: Sequence[bytes], target: LoadTarget, marks: Mapping[str, float] | None = None
) -> LoadRun:
    """As run_load, inside a running event loop."""
    if len(planned_ms) != len(requests):
        raise ValueError("one body a planned time")
    client = _Client(target.checked())
    before = _cpu_seconds()
    sent = await client.send_all(planned_ms, requests)
    return LoadRun(sent, target.deadline_ms, _cpu_seconds() - before, dict(marks or {}))


class _Client:
    def __init__(self, target: LoadTarget) -> None:
        self._target = target
        headers = {"Content-Type": "application/json"}
        if target.token:
            headers["Authorization"] = f"Bearer {target.token}"
        self._pool = HttpPool(target.url, headers)
        self._slots = asyncio.Semaphore(target.max_in_flight)

    async def send_all(self, planned_ms: np.ndarray, requests: Sequence[bytes]) -> list[Sent]:
        sent = [Sent(float(time_ms)) for time_ms in planned_ms]
        self._start = time.perf_counter()
        running: set[asyncio.Task[None]] = set()
        for entry, body in zip(sent, requests, strict=True):
            ahead_s = entry.planned_ms / 1000.0 - (time.perf_counter() - self._start)
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            task = asyncio.create_task(self._send(entry, body))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
        self._pool.close()
        return sent

    async def _send(self, entry: Sent, body: bytes) -> None:
        try:
            async with asyncio.timeout_at(self._loop_time(entry.planned_ms + self._target.timeout_ms)), self._slots:
                entry.sent_ms = self._now_ms()
                entry.status = TIMED_OUT
                await self._post(entry, body)
        except TimeoutError:
            pass
        except NoConnection:
            entry.status = NO_CONNECTION
        except Broken:
            entry.status = BROKEN

    async def _post(self, entry: Sent, body: bytes) -> None:
        try:
            await self._exchange(entry, body)
        except Broken as error:
            if not error.before_reply:
                raise
            entry.retried = True
            await self._exchange(entry, body, fresh=True)

    async def _exchange(self, entry: Sent, body: bytes, *, fresh: bool = False) -> None:
        left_ms = max(self._target.deadline_ms - (self._now_ms() - entry.planned_ms), LEAST_DEADLINE_MS)
        answer = await self._pool.post(body, b"X-Deadline-Ms: %.1f\r\n" % left_ms, fresh=fresh)
        entry.answered_ms = self._now_ms()
        entry.status = answer.status
        if answer.status == 200:
            _note_served(entry, answer.body)

    def _now_ms(self) -> float:
        return 1000.0 * (time.perf_counter() - self._start)

    def _loop_time(self, planned_ms: float) -> float:
        loop = asyncio.get_running_loop()
        return loop.time() + (planned_ms - self._now_ms()) / 1000.0


def _note_served(entry: Sent, answer: bytes) -> None:
    """Copy how an answer came about; an answer that is not the expected JSON counts as broken."""
    try:
        served = _served(answer)
        entry.source, entry.degraded = served["source"], bool(served["degraded"])
        entry.model_version = served["model_version"]
        entry.rung = served["rung"]
        entry.widths = tuple(served["widths"]) if served["widths"] else None
        entry.full_widths = tuple(served["full_widths"]) if served["full_widths"] else None
        entry.queue_ms, entry.decode_ms = float(served["queue_ms"] or 0.0), float(served["decode_ms"] or 0.0)
    except (ValueError, KeyError, TypeError):
        entry.status = BROKEN


def _served(answer: bytes) -> dict[str, Any]:
    """How the answer came about: its last part, as adbeam writes it; parsing the ads too would take longer."""
    tail = answer.rpartition(b'"served":')[2]
    try:
        served: dict[str, Any] = json.loads(tail.rstrip()[:-1])
    except ValueError:
        served = json.loads(answer)["served"]
    return served


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
