"""What the console shows comes from the application: its files, the path along a semantic ID, the last seconds."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic_core import to_json
from tests.support.asgi import call

from adbeam.decoding import Trie
from adbeam.decoding.trie.paths import Step, steps
from adbeam.errors import UserError
from adbeam.serving.config import ServingConfig
from adbeam.serving.http.app import build_api
from adbeam.serving.http.schemas import AdRequest, EventBatch
from adbeam.serving.monitoring.recent_answers import RecentAnswers


class PathService:
    """Knows semantic IDs and nothing else."""

    request_type, event_type, default_deadline_ms = AdRequest, EventBatch, 100.0

    def __init__(self, **args: Any) -> None:
        self.config = ServingConfig.parse(args)

    async def path(self, sid: list[int]) -> bytes:
        return to_json({"sid": sid})

    def count_response(self, route: str, status: int) -> None:
        pass


async def test_every_file_the_page_names_is_served_with_its_type_and_nothing_from_elsewhere() -> None:
    api = build_api(PathService(auth={"mode": "none"}))  # type: ignore[arg-type]
    page = await call(api, "GET", "/console")
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    named = set(re.findall(r'(?:src|href)="([^"#:]+)"', page.body.decode()))
    assert named == {"console/console.css", "console/console.js"}
    wanted = [f"/{name}" for name in named]
    for path in wanted:
        file = await call(api, "GET", path)
        assert file.status == 200, path
        assert file.headers["content-type"].startswith("text/css" if path.endswith("css") else "text/javascript")
        wanted += [f"/console/{name}" for name in re.findall(r'from "\./(.+?)"', file.body.decode())]
        assert b"http://" not in file.body.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in file.body
    assert len(set(wanted)) == 7


async def test_the_page_needs_no_token_and_what_it_shows_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADBEAM_API_KEYS", "secret")
    api = build_api(PathService(auth={"mode": "bearer"}))  # type: ignore[arg-type]
    assert (await call(api, "GET", "/console")).status == 200
    assert (await call(api, "GET", "/v1/path")).status == 401


@pytest.mark.parametrize("text", ["", "3.x", "3..4", "3,4"])
async def test_a_semantic_id_that_is_none_is_refused(text: str) -> None:
    api = build_api(PathService())  # type: ignore[arg-type]
    assert (await call(api, "GET", "/v1/path?sid=3.14.1")).json == {"sid": [3, 14, 1]}
    reply = await call(api, "GET", f"/v1/path?sid={text}")
    assert reply.status == 422 and "3.1.4" in reply.json["detail"]


def test_the_steps_count_what_is_live_below_each_prefix() -> None:
    trie = Trie.build([[1, 2, 3], [1, 2, 0], [1, 0, 3], [2, 2, 3], [1, 2, 3]], (4, 4, 4))
    assert steps(trie, (1, 2, 3)) == [
        Step((), 2, 4),
        Step((1,), 2, 3),
        Step((1, 2), 2, 2),
        Step((1, 2, 3), 0, 2),
    ]
    trie.remove(1)
    trie.insert(7, (1, 2, 1))
    trie.remove(3)
    assert steps(trie, (1, 2, 3)) == [Step((), 1, 3), Step((1,), 2, 3), Step((1, 2), 2, 2), Step((1, 2, 3), 0, 2)]
    assert steps(trie, (1, 2, 0)) == steps(trie, (1, 2, 3))[:3]
    assert steps(trie, (2, 2, 3)) == [Step((), 1, 3)]


@pytest.mark.parametrize("sid", [(1, 2), (1, 2, 4), (-1, 0, 0), (9, 0, 0)])
def test_a_semantic_id_that_does_not_fit_is_refused(sid: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="4, 4, 4"):
        steps(Trie.build([[1, 2, 3]], (4, 4, 4)), sid)


def test_only_the_last_seconds_are_summed_up() -> None:
    now = [0.0]
    recent = RecentAnswers(10.0, lambda: now[0])
    assert recent.summary()["p95_ms"] is None
    recent.add(9.0, "model")
    now[0] = 15.0
    for latency_ms in range(1, 101):
        recent.add(latency_ms / 1000, "cache" if latency_ms > 90 else "model")
    summary = recent.summary()
    assert summary["answers"] == 100 and summary["by_source"] == {"model": 90, "cache": 10, "fallback": 0}
    assert (summary["p50_ms"], summary["p99_ms"]) == (51.0, 100.0)
