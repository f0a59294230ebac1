"""User ids at the border: which mean nobody, and what becomes of long ones."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.bundles import write_random_bundle
from tests.support.echo_service import EVENT
from tests.support.serving.gated_engine import GatedEngine, running

from adbeam.beams.cost import BatchCost
from adbeam.export.export_bundle import _declared_nobody
from adbeam.identity.numbers import id_of_number
from adbeam.identity.people import NOBODY_WORDS, is_nobody, known_user, words_of
from adbeam.logs.config import LogsConfig
from adbeam.serving.config import LimitsConfig, ServingConfig
from adbeam.serving.deploy.bundle_follower import first_model
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.http.bid_reading import read_bid_request
from adbeam.serving.http.openrtb import RtbUser, bid_model
from adbeam.serving.http.schemas import PostedEvent
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.sqlite import SqliteStore


@pytest.mark.parametrize("text", ["", "   ", "NULL", " None ", "nan", "0", "00000000-0000-0000-0000-000000000000"])
def test_words_that_mean_nobody(text: str) -> None:
    assert is_nobody(text)


@pytest.mark.parametrize("text", ["u17", "00", "10", "nullable", "00000000-0000-0000-0000-000000000001"])
def test_ids_that_mean_somebody(text: str) -> None:
    assert not is_nobody(text)


def test_the_words_are_written_as_they_are_compared() -> None:
    assert {word.strip().lower() for word in NOBODY_WORDS} == NOBODY_WORDS


LONG = "ab" * 150
HASHED = "sha256-" + hashlib.sha256(LONG.encode()).hexdigest()


def test_ids_of_up_to_128_characters_stay_and_longer_ones_are_hashed() -> None:
    assert known_user("x" * 128) == "x" * 128
    assert known_user(LONG) == HASHED == known_user(HASHED)
    assert known_user(" ") is None and known_user(None) is None


@pytest.mark.parametrize(("sent", "known"), [("  ", None), ("NULL", None), (LONG, HASHED), ("u17", "u17")])
async def test_ads_and_bids_are_asked_for_the_known_user(sent: str, known: str | None, tmp_path: Path) -> None:
    engine = GatedEngine()
    async with running(tmp_path, engine) as service:
        ads = service.request_type.model_validate({"user_id": sent})
        assert await service.ads(ads, 2000.0, time.monotonic()) is not None
        bid = {"id": "r", "imp": [{"id": "1"}], "user": {"buyeruid": sent, "id": "u17"}}
        assert await service.bid(service.bid_type.model_validate(bid), 2000.0, time.monotonic()) is not None
        assert [query.user_id for batch in engine.batches for query in batch] == [known, known or "u17"]


async def test_words_that_the_log_declared_are_nobody_and_no_others_but_blank(tmp_path: Path) -> None:
    engine = GatedEngine()
    words = words_of(["Guest ", "anonymous"])
    async with running(tmp_path, engine) as service:
        service.take_model(replace(service.model, facts=replace(service.model.facts, nobody_words=words)))
        for sent in (" GUEST", "null", "", "u17"):
            ads = service.request_type.model_validate({"user_id": sent})
            assert await service.ads(ads, 2000.0, time.monotonic()) is not None
        bid = {"id": "r", "imp": [{"id": "1"}], "user": {"buyeruid": "guest", "id": "0"}}
        assert await service.bid(service.bid_type.model_validate(bid), 2000.0, time.monotonic()) is not None
        assert [query.user_id for batch in engine.batches for query in batch] == [None, "null", None, "u17", "0"]
        users = ["anonymous", "null", "u17"]
        events = [{**EVENT, "event_id": f"e{place}", "user_id": user} for place, user in enumerate(users)]
        batch = service.event_type.model_validate_json(json.dumps({"events": events}))
        assert json.loads(await service.events(batch)) == {"accepted": 2, "duplicates": 0, "nobody": 1}


@pytest.mark.parametrize("declared", [None, ["Guest"]])
def test_a_bundle_brings_the_words_of_its_log(tmp_path: Path, declared: list[str] | None) -> None:
    told: dict[str, Any] = {} if declared is None else {"nobody_words": declared}
    write_random_bundle(tmp_path, 40, **told)
    config = ServingConfig.resolve({"bundle": str(tmp_path)})
    loader = partial(load_model, cost=BatchCost(1.0, 0.5, 0.01))
    store = SqliteStore(tmp_path / "h.sqlite")
    model = first_model(loader, config, read_policy("static"), store, Metrics())
    assert model.facts.nobody_words == words_of(declared) == (NOBODY_WORDS if declared is None else {"", "guest"})


def test_export_writes_the_words_that_a_log_of_files_declares() -> None:
    events = {"path": "log.csv"}
    logs = {"source": "files", "files": {"events": events, "catalogue": "from_log"}, "split": {"by": "leave_last_out"}}
    assert _declared_nobody(LogsConfig.parse(logs)) == {} == _declared_nobody(LogsConfig())
    logs["files"] = {"events": events, "catalogue": "from_log", "nobody_words": ["guest"]}
    assert _declared_nobody(LogsConfig.parse(logs)) == {"nobody_words": ["guest"]}


async def test_events_of_nobody_are_counted_and_refuse_no_batch(tmp_path: Path) -> None:
    async with running(tmp_path, GatedEngine()) as service:
        users = ["", "null", LONG, "u17"]
        events = [{**EVENT, "event_id": f"e{place}", "user_id": user} for place, user in enumerate(users)]
        batch = service.event_type.model_validate_json(json.dumps({"events": events}))
        assert json.loads(await service.events(batch)) == {"accepted": 2, "duplicates": 0, "nobody": 2}
        known = [service.store.recent(user) is not None for user in ("", "null", HASHED, "u17")]
        assert known == [False, False, True, True]
        assert service.metrics.take()[0]["adbeam_events", (("result", "nobody"),)] == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(("value", "text"), [(17, "17"), (17.0, "17"), (1.7e1, "17"), (-3, "-3"), (2**70, str(2**70))])
def test_a_number_is_its_shortest_exact_text(value: float, text: str) -> None:
    assert id_of_number(value) == text


@pytest.mark.parametrize("value", [17.5, float(2**53), 1e19, float("nan"), float("inf"), True, "17", None, [17]])
def test_what_is_no_number_that_names_something(value: object) -> None:
    assert id_of_number(value) is None


@pytest.mark.parametrize(("sent", "known"), [(17.0, "17"), (17, "17"), (0, None), (1e19, None), (True, None)])
def test_exchanges_that_send_numbers_ask_for_the_same_user(sent: object, known: str | None) -> None:
    body = json.dumps({"id": "r", "imp": [{"id": "1"}], "user": {"buyeruid": sent}}).encode()
    request = read_bid_request(body, bid_model(LimitsConfig()), LimitsConfig(), Metrics())
    assert known_user((request.user or RtbUser()).buyeruid) == known


def test_a_store_filled_before_is_found_under_the_same_ids(tmp_path: Path) -> None:
    """Ids as versions without these rules wrote them: text of all kinds, straight into the store."""
    ids = ["17", "007", "17.0", " u17 ", "U17", "x" * 128, "ünïcode", "1e3", "true"]
    store = SqliteStore(tmp_path / "history.sqlite")
    events = [{**EVENT, "event_id": f"e{place}", "user_id": user} for place, user in enumerate(ids)]
    store.append([PostedEvent.model_validate_json(json.dumps(event)) for event in events])
    assert all(store.recent(known_user(user) or "") is not None for user in ids)


ODD = [
    "a\nb", "a\x00b", "\x1b[31mred", "a:b{c}", "'; DROP TABLE events; --", "ü😀\u202e", "%n%s", "a\tb\r", "{user_id}",
    "x" * 4096,
]  # fmt: skip


@pytest.mark.parametrize("sent", ODD)
async def test_no_id_breaks_a_key_a_log_or_a_metric(
    sent: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = GatedEngine()
    with caplog.at_level("DEBUG"):
        async with running(tmp_path, engine) as service:
            events = [{**EVENT, "user_id": sent}, {**EVENT, "event_id": "f", "user_id": "u17"}]
            batch = service.event_type.model_validate_json(json.dumps({"events": events}))
            assert json.loads(await service.events(batch)) == {"accepted": 2, "duplicates": 0}
            history = service.store.recent(known_user(sent) or "")
            assert history is not None and len(history) == 1
            body = json.dumps({"id": "r", "imp": [{"id": "1"}], "user": {"id": sent}}).encode()
            request = read_bid_request(body, service.bid_type, service.config.limits, service.metrics)
            assert await service.bid(request, 2000.0, time.monotonic()) is not None
            assert engine.batches[-1][0].user_id == known_user(sent)
            assert sent not in repr(service.metrics.take())  # type: ignore[attr-defined]
    assert sent not in caplog.text
