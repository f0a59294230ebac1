"""A small HTTP server of ads for the load generator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from adbeam.loadtest.runner import LoadTarget

FULL, NARROW = [32, 64, 128], [8, 16, 64]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def served_fields(widths: list[int] | None = FULL, source: str = "model", rung: int | None = 0) -> dict[str, Any]:
    return {
        "model_version": "v1", "rung": rung, "widths": widths, "full_widths": FULL, "degraded": source != "model",
        "source": source, "queue_ms": 1.0, "decode_ms": 2.0,
    }  # fmt: skip


def served(widths: list[int] | None = FULL, source: str = "model", rung: int | None = 0) -> web.Response:
    return web.json_response({"ads": [], "served": served_fields(widths, source, rung)})


@asynccontextmanager
async def server(handler: Handler, status: Handler | None = None) -> AsyncIterator[LoadTarget]:
    app = web.Application()
    app.router.add_post("/v1/ads", handler)
    if status is not None:
        app.router.add_get("/v1/status", status)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield LoadTarget(url=f"http://127.0.0.1:{port}/v1/ads", deadline_ms=10_000, timeout_ms=10_000)
    finally:
        await runner.cleanup()
