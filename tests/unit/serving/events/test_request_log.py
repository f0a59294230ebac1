"""The request log: what answers leave behind, under the event log's pseudonyms."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pyarrow.parquet as pq
from tests.support.serving.gated_engine import GatedEngine, model_of

from adbeam.records import REQUEST_SCHEMA, Action, Event
from adbeam.serving.config import EventLogConfig, RequestLogConfig, ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.events.event_log import EventLog, RequestLog
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore


def read(folder: Path) -> list[dict[str, object]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_requests_and_events_of_a_user_have_one_pseudonym(tmp_path: Path) -> None:
    events, requests = tmp_path / "events", tmp_path / "requests"
    request_log = RequestLog(RequestLogConfig(folder=requests), events)
    store = SqliteStore(tmp_path / "h.sqlite")
    event_log = EventLog(EventLogConfig(folder=events), store)
    event_log.keep([Event(event_id="e", request_id="r", user_id="anna", timestamp=1, item_id="a", action=Action.CLICK)])
    ads = [{"item_id": "a", "sid": [1, 2], "probability": 0.25, "expected_ecpm": 3.0},
           {"item_id": "b", "sid": [], "probability": None, "expected_ecpm": None}]  # fmt: skip
    body = {"request_id": "r", "ads": ads, "served": {"model_version": "v1", "source": "model"}}
    request_log.append("anna", 7, "feed", body)
    request_log.append(None, 8, "feed", body)
    for log in (event_log, request_log, store):
        log.close()
    (first, unknown), (event,) = read(requests), read(events)
    assert first["user_id"] == event["user_id"] != "anna" and unknown["user_id"] is None
    assert first["log_probabilities"] == [math.log(0.25), None] and first["sids"] == [[1, 2], []]
    assert pq.read_schema(next(requests.glob("*.parquet"))).equals(REQUEST_SCHEMA)
    assert not (requests / ".user_key").exists()


async def test_every_answer_is_logged_with_who_made_it(tmp_path: Path) -> None:
    log = RequestLog(RequestLogConfig(folder=tmp_path / "requests"))
    service = RecommenderService(
        ServingConfig.parse({}), model_of(GatedEngine()), read_policy("deadline"), SqliteStore(tmp_path / "h.sqlite"),
        Metrics(), None, log,
    )  # fmt: skip
    service.start()
    request = service.request_type(user_id="anna", scene="feed", request_id="mine")
    await service.ads(request, 1000.0, time.monotonic())
    empty = service.request_type(user_id="anna", scene="empty")
    assert await service.ads(empty, 1000.0, time.monotonic()) is None
    service.close()
    (row,) = read(tmp_path / "requests")
    assert (row["request_id"], row["source"], row["model_version"]) == ("mine", "model", "v1")
    assert row["item_ids"] == ["v1-ad"]


async def test_a_test_auction_is_bid_on_and_not_logged(tmp_path: Path) -> None:
    service = RecommenderService(
        ServingConfig.parse({}), model_of(GatedEngine()), read_policy("deadline"), SqliteStore(tmp_path / "h.sqlite"),
        Metrics(), None, RequestLog(RequestLogConfig(folder=tmp_path / "requests")),
    )  # fmt: skip
    service.start()
    for test in (1, 0):
        request = service.bid_type.model_validate({"id": "r", "imp": [{"id": "1"}], "test": test})
        assert await service.bid(request, 1000.0, time.monotonic()) is not None
    service.close()
    assert len(read(tmp_path / "requests")) == 1
