"""A machine too busy for any answer in time: a burst and a load test say so, and end without an error."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from rich.console import Console
from tests.support.loadtest.ad_server import served, server
from typer.testing import CliRunner

from adbeam.cli.root import app
from adbeam.errors import UserError
from adbeam.loadtest import burst, capacity
from adbeam.loadtest.plan import LoadTestConfig, load_test, none_in_time
from adbeam.loadtest.runner import LoadRun, LoadTarget, Sent
from adbeam.serving.deploy.local import Endpoint
from adbeam.serving.deploy.policy import read_policy

DECODED_PER_SECOND = 30.0


class PolicyEndpoint(Endpoint):
    """Takes a policy in force at once, as the status of `endpoint` then tells."""

    def reconfigure(self, **options: Any) -> None:
        self.config["policy"] = read_policy(options["policy"]).model_dump(mode="json")


@asynccontextmanager
async def endpoint(answer_seconds: float) -> AsyncIterator[Endpoint]:
    """One that answers by the model at full width after so long, and whose decode times allow DECODED_PER_SECOND.

    A proxy before it holds it for lost at first.
    """
    running = PolicyEndpoint("", "ads", owns_ray=False)

    async def ads(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(answer_seconds)
        return served()

    lost = [True]

    async def status(request: web.Request) -> web.StreamResponse:
        if lost:
            lost.pop()
            return web.Response(status=503, text="no replica")
        known = {"full_width_capacity_per_second": DECODED_PER_SECOND, "policy_settings": running.config["policy"]}
        return web.json_response(known)

    async with server(ads, status) as target:
        running.url = target.url.removesuffix("/v1/ads")
        yield running


@pytest.fixture(autouse=True)
def short_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RAMP_SECONDS": 1.0, "WINDOW_MS": 300.0, "RISES": 1}.items():
        monkeypatch.setattr(capacity, name, value)
    for name in ("BEFORE_SECONDS", "BURST_SECONDS", "AFTER_SECONDS"):
        monkeypatch.setattr(burst, name, 0.5)
    monkeypatch.setattr(burst, "SETTLE_SECONDS", 0.05)


async def _burst(answer_seconds: float, folder: Path) -> tuple[dict[str, float], str]:
    console = Console(file=io.StringIO(), width=1000)
    async with endpoint(answer_seconds) as running:
        figures = await asyncio.to_thread(burst.send_burst, running, ["u1", "u2"], 1, folder, console)
    console.print(burst.burst_table(figures))
    assert isinstance(console.file, io.StringIO)
    return figures, console.file.getvalue()


async def test_a_burst_goes_on_with_what_the_decode_times_allow(tmp_path: Path) -> None:
    figures, said = await _burst(0.4, tmp_path)
    assert figures["capacity_kept"] == 0 and figures["capacity"] == DECODED_PER_SECOND
    assert figures["in_deadline"] == 0 and figures["requests"] > 50
    assert "no load was kept inside the deadline: 0 of" in said and "0 by full width; the model's answers took" in said
    assert "their decodes p50 2 ms" in said and "30.0 requests/s" in said
    assert (tmp_path / "burst.png").read_bytes().startswith(b"\x89PNG")


async def test_a_burst_whose_capacity_was_kept_says_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(burst, "DEADLINE_MS", 5000.0)  # this machine may be busy too
    figures, said = await _burst(0.0, tmp_path)
    assert figures["capacity_kept"] == 1 and figures["capacity"] > 0
    assert "no load was kept" not in said


async def test_figures_that_need_a_kept_capacity_are_refused_without_one() -> None:
    async with endpoint(0.4) as running:
        target = LoadTarget(url=f"{running.url}/v1/ads", deadline_ms=100.0)
        with pytest.raises(UserError, match=r"no load is answered inside the deadline: 0 of \d+ requests"):
            await asyncio.to_thread(capacity.measure_capacity, running, ["u"], target)


def test_a_decode_rate_near_zero_still_sends_a_burst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "DECODED_PER_SECOND", 0.01)
    monkeypatch.setattr(burst, "BURST_SECONDS", 1.0)
    figures, said = asyncio.run(_burst(0.4, tmp_path))
    assert figures["requests"] > 0 and figures["capacity"] == 0.01
    assert "0 of 0 requests" in said and "nothing was decoded" in said


async def test_a_load_test_without_an_answer_in_time_reports_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": ["u1", "u2"]}), tmp_path / "users.parquet")
    sets = ["shape.kind=constant", "shape.rate_per_second=20", "shape.seconds=0.3", "target.deadline_ms=50"]
    sets += ["target.timeout_ms=100", f"users={tmp_path / 'users.parquet'}"]
    async with endpoint(0.5) as running:
        asked = ["loadtest", "--url", f"{running.url}/v1/ads", "--report", str(tmp_path / "load.html")]
        asked += [word for value in sets for word in ("--set", value)]
        result = await asyncio.to_thread(CliRunner().invoke, app, asked)
    assert result.exit_code == 0, result.output
    assert "0 of 6 requests answered in 50 ms" in result.output and "lower shape.rate_per_second" in result.output
    assert "data:image/png" in (tmp_path / "load.html").read_text()


def test_a_load_test_where_nobody_listens_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    values = {"target": {"url": f"http://127.0.0.1:{port}/v1/ads"}, "shape": {"kind": "constant", "seconds": 0.1}}
    config = LoadTestConfig.parse({**values, "report": str(tmp_path / "load.png")}, "test")
    with pytest.raises(UserError, match="is the server running"):
        load_test(config, ["u1"])


@pytest.mark.parametrize(
    ("status", "answered_ms", "told"),
    [(200, 90.0, True), (200, 10.0, False), (401, 90.0, False), (503, 10.0, True), (-1, float("nan"), True)],
)
def test_only_want_of_time_is_told_as_that(status: int, answered_ms: float, told: bool) -> None:
    run = LoadRun([Sent(0.0, 0.0, answered_ms, status, "model", decode_ms=5.0)], deadline_ms=50.0)
    assert (none_in_time(run) is not None) == told
