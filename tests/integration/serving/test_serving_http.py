"""The endpoint as a client meets it: real Serve behind HAProxy, a bundle with random weights, HTTP on 127.0.0.1."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pyarrow.dataset as ds
import pytest
from tests.support.bundles import CATEGORIES, random_model_config, write_random_bundle

from adbeam.errors import UserError
from adbeam.loadtest.arrivals import constant
from adbeam.loadtest.runner import LoadTarget, bodies, run_load
from adbeam.serving.client import call
from adbeam.serving.deploy.local import Endpoint, start
from adbeam.serving.http.answer_schemas import AdResponse, ReplicaStatus
from adbeam.serving.stores.store import now_ms

PORT = 18100
FULL = (32, 64, 128)
CONFIG = random_model_config(codebooks=(64, 64, 64), width=64, heads=4)
SERVING = Path(__file__).parents[3] / "serving"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    write_random_bundle(folder / "bundles", 3000, config=CONFIG, full_widths=FULL)
    return folder


@pytest.fixture(scope="module")
def endpoint(ray_session: None, work: Path) -> Iterator[Endpoint]:
    overrides = {
        "bundle": str(work / "bundles"),
        "watch_seconds": 0.2,
        "store": {"path": str(work / "h.sqlite")},
        "event_log": {"folder": str(work / "events"), "rotate_seconds": 0.5},
        "updates.path": str(work / "ads.sqlite"),
        "cache.enabled": False,
        "deadline.max_ms": 20_000,
    }
    running = start(SERVING / "ads.yaml", overrides, PORT)
    yield running
    running.stop()


def ads(endpoint: Endpoint, **body: Any) -> tuple[int, Any]:
    return call(endpoint.url, "POST", "/v1/ads", body)


def event(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": name, "request_id": "r", "user_id": "buyer", "timestamp": now_ms() - 1000, "item_id": "item-7",
        "action": "conversion", "price": 4.5, **changes,
    }  # fmt: skip


def raw(body: bytes, path: str = "/v1/ads") -> tuple[int, Any]:
    """POST bytes as they are; (status, decoded body)."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as connection:
        connection.sendall(head.encode() + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    start, _, text = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(text) if text else None


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_an_unknown_user_gets_the_cold_start_answer_of_the_model(endpoint: Endpoint) -> None:
    status, answer = ads(endpoint, user_id="nobody knows", count=5, scene="mailer", request_id="mine", deadline_ms=5000)
    assert status == 200
    response = AdResponse.model_validate(answer)
    assert response.request_id == "mine" and len(response.ads) == 5
    served = response.served
    assert (served.source, served.degraded, served.cold_start) == ("model", False, True)
    assert tuple(served.full_widths) == FULL and served.widths is not None and served.rung is not None
    assert served.decode_ms > 0
    assert [ad.score for ad in response.ads] == sorted((ad.score for ad in response.ads), reverse=True)


def test_events_count_once_and_become_the_history(endpoint: Endpoint, work: Path) -> None:
    posted = {"events": [event("e1"), event("e2", item_id="item-8", action="click")]}
    assert call(endpoint.url, "POST", "/v1/events", posted) == (202, {"accepted": 2, "duplicates": 0})
    posted["events"].append(event("e3", item_id="item-9"))
    assert call(endpoint.url, "POST", "/v1/events", posted) == (202, {"accepted": 1, "duplicates": 2})
    status, answer = ads(endpoint, user_id="buyer", count=100, filters={"exclude_seen": True}, deadline_ms=5000)
    assert status == 200 and answer["served"]["cold_start"] is False
    assert not {"item-7", "item-8", "item-9"} & {ad["item_id"] for ad in answer["ads"]}

    def logged() -> list[str]:
        files = sorted((work / "events").glob("events-*.parquet"))
        return sorted(ds.dataset(files).to_table().to_pydict()["event_id"]) if files else []

    until(lambda: logged() == ["e1", "e2", "e3"])


def test_no_matching_ad_is_204(endpoint: Endpoint) -> None:
    assert ads(endpoint, filters={"blocked_categories": list(CATEGORIES)}, deadline_ms=5000) == (204, None)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"count": 0}', 422, "count"),
        (b'{"count": 1000000}', 422, "count"),
        (b'{"scene": "lobby"}', 422, "'display' or 'mailer'"),
        (b'{"conut": 5}', 422, "conut"),
        (b'{"user_id": 7}', 422, "user_id"),
        (b'{"count": ', 400, "not valid JSON"),
        (b"\xff\x00", 400, "not valid JSON"),
        (b"", 400, "not valid JSON"),
        (b'{"user_id": "' + b"x" * 10_000_000 + b'"}', 413, "1048576 bytes"),
    ],
)
def test_bad_input_is_answered_with_a_clear_problem(endpoint: Endpoint, body: bytes, status: int, words: str) -> None:
    got, problem = raw(body)
    assert got == status == problem["status"]
    assert words in problem["detail"] and "Traceback" not in json.dumps(problem)


def test_bad_events_are_refused_whole(endpoint: Endpoint) -> None:
    tomorrow = event("f2", timestamp=now_ms() + 86_400_000)
    status, problem = call(endpoint.url, "POST", "/v1/events", {"events": [event("f1"), tomorrow]})
    assert status == 422 and problem["errors"][0]["field"] == "events.1.timestamp"
    status, problem = call(endpoint.url, "POST", "/v1/events", {"events": [event("f1", price=-1)]})
    assert status == 422 and problem["errors"][0]["field"] == "events.0.price"
    assert call(endpoint.url, "POST", "/v1/events", {"events": [event("f1")]}) == (
        202,
        {"accepted": 1, "duplicates": 0},
    )


def test_health_readiness_and_the_openapi_document(endpoint: Endpoint) -> None:
    assert call(endpoint.url, "GET", "/healthz")[0] == 200
    assert call(endpoint.url, "GET", "/readyz")[0] == 200
    status, document = call(endpoint.url, "GET", "/openapi.json")
    assert status == 200 and "/v1/ads" in document["paths"]
    assert call(endpoint.url, "GET", "/nowhere")[0] == 404


def test_the_console_and_what_it_shows_come_through_the_proxy(endpoint: Endpoint) -> None:
    with urllib.request.urlopen(f"{endpoint.url}/console/console.js") as answer:
        assert answer.status == 200 and answer.headers["content-type"].startswith("text/javascript")
    until(lambda: call(endpoint.url, "GET", "/v1/status")[1]["replicas"] == {"RUNNING": 1})
    sid = ads(endpoint, deadline_ms=5000)[1]["ads"][0]["sid"]
    state = ReplicaStatus.model_validate(call(endpoint.url, "GET", "/v1/status")[1])
    assert state.replica and tuple(state.ladder[0]) == FULL and state.recent.answers > 0
    status, path = call(endpoint.url, "GET", f"/v1/path?sid={'.'.join(map(str, sid))}")
    assert status == 200 and [step["prefix"] for step in path["steps"]] == [sid[:length] for length in range(4)]
    assert call(endpoint.url, "GET", "/v1/path?sid=1.2")[0] == 422


def test_a_burst_narrows_the_beams_and_calm_widens_them_again(endpoint: Endpoint) -> None:
    def burst(deadline_ms: int) -> int:
        """The narrowest width, all levels together, of 400 requests of 64 clients."""

        def one(number: int) -> tuple[int, Any]:
            return ads(endpoint, user_id=f"user-{number}", deadline_ms=deadline_ms)

        until(lambda: ads(endpoint, deadline_ms=5000)[1]["served"]["rung"] == 0)
        with ThreadPoolExecutor(64) as pool:
            answers = list(pool.map(one, range(400)))
        assert {status for status, _ in answers} == {200}
        decoded = [answer["served"] for _, answer in answers if answer["served"]["source"] == "model"]
        assert all(served["rung"] == 0 or tuple(served["widths"]) != FULL for served in decoded)
        assert all(answer["served"]["degraded"] for _, answer in answers if answer["served"]["source"] != "model")
        return min((sum(served["widths"]) for served in decoded), default=sum(FULL))

    deadlines_ms = (1000, 500, 250, 120, 60)  # what is tight depends on the machine
    assert any(burst(deadline_ms) < sum(FULL) for deadline_ms in deadlines_ms)
    until(lambda: ads(endpoint, deadline_ms=5000)[1]["served"]["widths"] == list(FULL), 60)


def test_a_new_bundle_takes_over_without_a_failed_request_and_a_broken_one_does_not(
    endpoint: Endpoint, work: Path
) -> None:
    def version() -> str:
        status, answer = ads(endpoint, deadline_ms=10_000)
        assert status == 200
        return str(answer["served"]["model_version"])

    second = write_random_bundle(work / "bundles", 3000, config=CONFIG, full_widths=FULL, seed=1)
    until(lambda: version() == second.name, 60)
    broken = write_random_bundle(work / "staging", 3000, config=CONFIG, full_widths=FULL, seed=2)
    (broken / "catalogue.parquet").write_bytes(b"PAR1 and nothing else")
    broken.rename(work / "bundles" / broken.name)
    (work / "bundles" / "CURRENT").write_text(broken.name)
    time.sleep(1.0)
    assert version() == second.name
    assert call(endpoint.url, "GET", "/healthz")[0] == 200


# The pointer still names the broken bundle: the replica that comes must take the one before it.
def test_requests_of_a_killed_replica_are_answered_and_another_comes(endpoint: Endpoint) -> None:
    def replicas() -> list[psutil.Process]:
        ours = psutil.Process().children(recursive=True)
        return [process for process in ours if " ".join(process.cmdline()).startswith("ray::ServeReplica:ads")]

    target = LoadTarget(url=f"{endpoint.url}/v1/ads", deadline_ms=2000, timeout_ms=20_000)
    (replica,) = replicas()
    threading.Timer(1.0, replica.kill).start()
    run = run_load(constant(20.0, 3.0), bodies(["u1", "u2"], target, 60), target)
    statuses = {entry.status for entry in run.requests}
    told = {200, 408}  # 408 is Serve, where no replica is left to ask
    assert 200 in statuses and all(status in told or status >= 500 for status in statuses), "5xx, not silence"
    until(lambda: call(endpoint.url, "POST", "/v1/ads", {"deadline_ms": 10_000})[0] == 200, 120)
    assert [process.pid for process in replicas()] != [replica.pid]


def test_a_wrong_configuration_is_refused_before_anything_starts(ray_session: None, work: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        start(SERVING / "ads.yaml", {"bundle": str(work / "nothing")}, PORT + 1)
    with pytest.raises(UserError, match="did you mean 'threads'"):
        start(SERVING / "ads.yaml", {"bundle": str(work / "bundles"), "engine.thread": 1}, PORT + 1)
