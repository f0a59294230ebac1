"""What a load test reads off the answers: figures, the picture, the page, the capacity."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from tests.support.loadtest.ad_server import FULL, NARROW, served, server
from typer.testing import CliRunner

from adbeam.cli.root import app
from adbeam.errors import UserError
from adbeam.loadtest.capacity import best_rate
from adbeam.loadtest.plan import load_test, read_load_test
from adbeam.loadtest.report import draw, reaction_ms, recovery_seconds, rung_changes, summarize
from adbeam.loadtest.runner import LoadRun, Sent


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
