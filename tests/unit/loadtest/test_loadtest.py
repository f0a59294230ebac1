"""The load generator against a small HTTP server of the test's own."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from typer.testing import CliRunner

from adbeam.cli.root import app
from adbeam.errors import UserError
from adbeam.loadtest.capacity import best_rate
from adbeam.loadtest.plan import load_test, read_load_test
from adbeam.loadtest.report import draw, reaction_ms, recovery_seconds, rung_changes, summarize
from adbeam.loadtest.runner import LoadRun, LoadTarget, Sent, bodies, run_load, send_load

FULL, NARROW = [32, 64, 128], [8, 16, 64]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def served(widths: list[int] | None = FULL, source: str = "model", rung: int | None = 0) -> web.Response:
    return web.json_response(answer_of(widths, source, rung))


def answer_of(widths: list[int] | None = FULL, source: str = "model", rung: int | None = 0) -> dict[str, Any]:
    served = {
        "model_version": "v1", "rung": rung, "widths": widths, "full_widths": FULL, "degraded": source != "model",
        "source": source, "queue_ms": 1.0, "decode_ms": 2.0,
    }  # fmt: skip
    return {"ads": [], "served": served}


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[LoadTarget]:
    app = web.Application()
    app.router.add_post("/v1/ads", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield LoadTarget(url=f"http://127.0.0.1:{port}/v1/ads", deadline_ms=10_000, timeout_ms=10_000)
    finally:
        await runner.cleanup()


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
            body = json.dumps({"served": answer_of()["served"]}).encode()
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
        body = json.dumps({"served": answer_of()["served"]}).encode()
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


def made_run() -> LoadRun:
    """One request each 100 ms for 9 s: full, narrow from 3 s (answered 50 ms later) to 6 s, full again at 7 s."""
    requests = []
    for place in range(90):
        planned = place * 100.0
        narrow = 3000 <= planned < 7000
        widths = tuple(NARROW if narrow else FULL)
        requests.append(
            Sent(planned, planned, planned + 50, 200, "model", int(narrow), widths, tuple(FULL), decode_ms=20.0)
        )
    return LoadRun(requests, deadline_ms=100.0, marks={"step": 3000.0, "end": 6000.0})


def test_reaction_recovery_and_rung_changes_are_read_off_the_answers() -> None:
    requests = made_run().requests
    assert reaction_ms(requests, 3000) == pytest.approx(30)
    assert recovery_seconds(requests, 6000) == pytest.approx(1.0)
    assert rung_changes(requests) == 2
    assert math.isnan(reaction_ms(requests[:20], 0))


def test_value_weighs_answers_by_the_quality_of_their_widths() -> None:
    figures = summarize(made_run(), 3000, 7000, quality={tuple(FULL): 1.0, tuple(NARROW): 0.8})
    assert figures["value"] == pytest.approx(0.8)
    assert figures["requests"] == 40


def test_the_picture_is_written(tmp_path: Path) -> None:
    path = draw(made_run(), tmp_path / "load.png", "step")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000


async def test_a_load_test_reports_the_parts_of_a_step_as_a_page(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return served()

    pq.write_table(pa.table({"user_id": ["u1", "u1", "u2"]}), tmp_path / "users.parquet")
    (tmp_path / "load.yaml").write_text(
        "shape: {kind: step, rate_per_second: 50, seconds: 0.2, factor: 3, step_seconds: 0.2}\n"
    )
    async with server(handler) as target:
        overrides: dict[str, Any] = {"users": tmp_path / "users.parquet", "report": tmp_path / "out" / "load.html"}
        overrides |= {"target.url": target.url, "target.deadline_ms": 10_000, "target.timeout_ms": 10_000}
        config = read_load_test(tmp_path / "load.yaml", overrides)
        run, figures = await asyncio.to_thread(load_test, config)
    assert set(figures) == {"all", "before", "step", "after"} and figures["all"]["in_deadline"] == 1
    assert figures["step"]["requests"] > figures["before"]["requests"]
    assert sum(figures[span]["requests"] for span in ("before", "step", "after")) == len(run.requests)
    page = config.report.read_text()
    assert "data:image/png;base64," in page and "<th>before</th>" in page and "model_in_deadline" in page


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"report": "x.svg"}, r"\.png or \.html"),
        ({"shape.kind": "times"}, "needs a trace file"),
        ({"shape.rat_per_second": 3}, "did you mean 'rate_per_second'"),
        ({"report": "x.png", "report.name": 3}, "report: is no section"),
    ],
)
def test_a_wrong_load_test_is_refused_by_name(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_load_test(None, overrides)


def test_the_verb_says_what_is_missing() -> None:
    result = CliRunner().invoke(app, ["loadtest"])
    assert isinstance(result.exception, UserError) and "users" in str(result.exception)
    away = CliRunner().invoke(app, ["loadtest", "--url", "http://ads.example.com/v1/ads", "--work-dir", "nowhere"])
    assert isinstance(away.exception, UserError)


def test_capacity_is_the_highest_rate_that_full_width_answers_in_time() -> None:
    full = (8, 16)

    def sent(planned_ms: float) -> Sent:
        return Sent(planned_ms, answered_ms=planned_ms + 50.0, source="model", widths=full, full_widths=full)

    slow = [sent(1000.0 * place / 20) for place in range(20 * 5)]
    fast = [sent(5000.0 + 1000.0 * place / 40) for place in range(40 * 5)]
    assert best_rate(slow + fast, 100.0) == pytest.approx(40.0, rel=0.02)
    for spoilt in (
        [replace(entry, answered_ms=entry.planned_ms + 101.0) for entry in fast],
        [replace(entry, widths=(4, 8)) for entry in fast],
        [replace(entry, source="fallback") for entry in fast],
    ):
        # a window may reach into the fast part as far as one request in twenty
        assert best_rate(slow + spoilt, 100.0) == pytest.approx(20.0, rel=0.1)
    assert best_rate(slow, 10.0) == 0.0
