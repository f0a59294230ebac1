"""The load generator against a small HTTP server of the test's own."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
from contextlib import suppress

import numpy as np
import pytest
from aiohttp import web
from tests.support.loadtest.ad_server import FULL, NARROW, served, served_fields, server

from adbeam.errors import UserError
from adbeam.loadtest.report import summarize
from adbeam.loadtest.runner import LoadTarget, bodies, run_load, send_load


async def test_every_request_is_sent_with_its_user_and_noted() -> None:
    seen: list[dict[str, object]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(await request.json())
        return served(NARROW if len(seen) % 2 else FULL, rung=len(seen) % 2)

    async with server(handler) as target:
        target = target.model_copy(update={"scene": "store", "count": 3})
        run = await send_load(np.arange(20) * 2.0, bodies(["u1", "u2"], target, 20), target)
    assert len(seen) == 20
    assert {body["user_id"] for body in seen} == {"u1", "u2"}
    assert all(body["scene"] == "store" and body["count"] == 3 for body in seen)
    figures = summarize(run)
    assert figures["in_deadline"] == figures["model_in_deadline"] == 1
    assert figures["mean_width"] == pytest.approx((sum(FULL) + sum(NARROW)) / 6)
    assert run.requests[0].model_version == "v1"
    assert math.isfinite(run.requests[0].latency_ms)


async def test_a_slow_server_does_not_lower_the_load_and_lateness_counts_from_the_plan() -> None:
    gate = asyncio.Semaphore(1)
    arrived = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        async with gate:
            await asyncio.sleep(0.02)
        return served()

    async with server(handler) as target:
        target = target.model_copy(update={"deadline_ms": 100.0})
        run = await send_load(np.arange(15) * 1.0, bodies(["u"], target, 15), target)
    latencies = [entry.latency_ms for entry in run.requests]
    assert arrived == 15
    assert latencies[-1] > 15 * 20 - 15 - 5
    assert summarize(run)["in_deadline"] < 0.5


async def test_time_and_requests_in_flight_are_bounded() -> None:
    most = now = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal most, now
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0.5)
        finally:
            now -= 1
        return served()

    async with server(handler) as target:
        target = target.model_copy(update={"max_in_flight": 3, "timeout_ms": 100})
        run = await send_load(np.zeros(10), bodies(["u"], target, 10), target)
    assert most <= 3
    assert summarize(run)["failed"] == 1
    assert all(entry.status <= 0 for entry in run.requests)


async def test_shed_and_empty_and_degraded_answers_are_told_apart() -> None:
    answers = [
        web.Response(status=503),
        web.Response(status=204),
        served(None, "fallback", None),
        web.Response(status=500),
    ]
    queue = iter(answers)

    async def handler(request: web.Request) -> web.StreamResponse:
        return next(queue)

    async with server(handler) as target:
        run = await send_load(np.arange(4) * 20.0, bodies(["u"], target, 4), target)
    figures = summarize(run, fallback_quality=0.5)
    shares = {
        name: figures[name] for name in ("shed", "failed", "degraded", "in_deadline", "model_in_deadline", "value")
    }
    assert shares == {
        "shed": 0.25, "failed": 0.25, "degraded": 0.25, "in_deadline": 0.5, "model_in_deadline": 0.25,
        "value": (1 + 0.5) / 4,
    }  # fmt: skip


async def test_only_a_connection_closed_before_a_reply_is_tried_again() -> None:
    tries = 0

    async def raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if tries == 2:
            body = json.dumps({"served": served_fields()}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        elif tries == 3:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(raw, "127.0.0.1", 0)
    async with listener:
        target = LoadTarget(url=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1/ads", timeout_ms=1000)
        first = await send_load(np.zeros(1), bodies(["u"], target, 1), target)
        second = await send_load(np.zeros(1), bodies(["u"], target, 1), target)
    assert first.requests[0].status == 200
    assert first.requests[0].retried
    assert second.requests[0].status < 0
    assert tries == 3


async def test_what_a_kept_connection_broke_is_tried_on_a_new_one() -> None:
    """A proxy that restarts ends all its connections at once."""

    async def raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        await asyncio.sleep(0.05)
        body = json.dumps({"served": served_fields()}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"}")
        writer.close()

    listener = await asyncio.start_server(raw, "127.0.0.1", 0)
    async with listener:
        target = LoadTarget(url=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1/ads", timeout_ms=1000)
        run = await send_load(np.array([0.0, 0.0, 0.0, 300.0]), bodies(["u"], target, 4), target)
    assert [(entry.status, entry.retried) for entry in run.requests] == [(200, False)] * 3 + [(200, True)]


def test_a_run_has_an_event_loop_of_its_own_and_connections_are_kept() -> None:
    connections = 0

    def answer(listener: socket.socket) -> None:
        nonlocal connections
        body = served().body
        assert isinstance(body, bytes)
        reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        with suppress(OSError):  # the test is over
            while True:
                connection, _ = listener.accept()
                connections += 1
                while connection.recv(65536):
                    connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/ads"
        target = LoadTarget(url=url, max_in_flight=1, timeout_ms=5000)
        run = run_load(np.arange(5) * 40.0, bodies(["u"], target, 5), target)
    assert [entry.status for entry in run.requests] == [200] * 5 and connections == 1
    assert run.requests[0].widths == tuple(FULL)


async def test_no_server_is_a_failure_without_a_retry() -> None:
    target = LoadTarget(url="http://127.0.0.1:1/v1/ads")
    run = await send_load(np.zeros(2), bodies(["u"], target, 2), target)
    assert summarize(run)["failed"] == 1
    assert not any(entry.retried for entry in run.requests)


async def test_an_answer_that_is_not_the_contract_is_broken() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"ads": []})

    async with server(handler) as target:
        run = await send_load(np.zeros(1), bodies(["u"], target, 1), target)
    assert summarize(run)["failed"] == 1


def test_load_goes_to_this_machine_unless_the_host_is_allowed() -> None:
    away = LoadTarget(url="http://ads.example.com/v1/ads")
    with pytest.raises(UserError, match=r"--allow-host ads\.example\.com"):
        away.checked()
    assert away.model_copy(update={"allow_host": "ads.example.com"}).checked().url == away.url
    with pytest.raises(UserError, match="URL"):
        LoadTarget(url="127.0.0.1:8000").checked()
