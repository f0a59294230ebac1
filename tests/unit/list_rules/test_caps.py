"""Frequency caps: what a user has seen enough of, against brute force; in every kind of answer."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.list_rules.random_lists import Row, could_be_longer, is_legal, live, random_bundle, random_rules

from adbeam.beams.cost import BatchCost
from adbeam.catalogue.blocked import Blocked
from adbeam.catalogue.owners import Owner
from adbeam.errors import UserError
from adbeam.list_rules.caps import Worn
from adbeam.records import HOUR_MS, Event
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.request import Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.queue import seen_enough
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import now_ms

WIDE, NOW_MS = (4, 16, 128), 1_777_000_000_000
Caps = list[dict[str, Any]]


def _service(folder: Path, **args: Any) -> RecommenderService:
    config = ServingConfig.resolve({"bundle": "b", **args}, folder)
    policy, metrics, store = read_policy("deadline"), Metrics(), SqliteStore(folder / "h.sqlite")
    model = load_model(config.bundle, config, policy, store, metrics, BatchCost(1.0, 0.5, 0.01))
    return RecommenderService(config, model, policy, store, metrics)


def _random_caps(rng: np.random.Generator) -> Caps:
    kinds = ("ad", "campaign", "advertiser")
    return [
        {
            "of": kinds[int(rng.integers(0, 3))],
            "most": int(rng.integers(1, 6)),
            "hours": float(rng.choice([1, 24, 200])),
        }
        for _ in range(int(rng.integers(1, 4)))
    ]


def _event(number: int, user_id: str, item_id: str, timestamp: int, action: str = "impression") -> Event:
    return Event.model_validate(
        {"event_id": f"e{number}", "request_id": "r", "user_id": user_id, "timestamp": timestamp, "item_id": item_id,
         "action": action}
    )  # fmt: skip


def _random_events(rng: np.random.Generator, rows: list[Row], user_id: str) -> list[Event]:
    favourites = rng.choice(len(rows), 6)
    return [
        _event(
            number + 1000 * int(user_id[1:]), user_id,
            "gone" if rng.random() < 0.1 else str(rows[int(rng.choice(favourites))]["item_id"]),
            NOW_MS - int(rng.integers(0, 300 * HOUR_MS)), str(rng.choice(["impression", "impression", "click"])),
        )
        for number in range(40)
    ]  # fmt: skip


def _may_be_shown(row: Row, events: list[Event], caps: Caps, rows: dict[str, Row], at_ms: int) -> bool:
    for cap in caps:
        shown = Counter(
            event.item_id if cap["of"] == "ad" else rows[event.item_id][cap["of"]]
            for event in events
            if event.action == "impression" and event.timestamp > at_ms - cap["hours"] * HOUR_MS
            and (event.item_id in rows or cap["of"] == "ad")
        )  # fmt: skip
        kind = row["item_id"] if cap["of"] == "ad" else row[cap["of"]]
        if kind is not None and shown[kind] >= cap["most"]:
            return False
    return True


@pytest.mark.parametrize("seed", range(5))
def test_no_answer_holds_what_its_user_has_seen_enough_of(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bundle = random_bundle(tmp_path / "b", int(rng.integers(20, 120)), seed)
    known = {row["item_id"]: row for row in bundle.catalogue.to_pylist()}
    rows = {row["item_id"]: row for row in live(bundle)}
    for number in range(4):
        caps, rules = _random_caps(rng), random_rules(rng) if seed % 2 else {}
        (tmp_path / f"s{number}").mkdir()
        (tmp_path / f"s{number}" / "b").symlink_to(tmp_path / "b")
        service = _service(tmp_path / f"s{number}", frequency_caps=caps, list_rules=rules)
        events = {f"u{n}": _random_events(rng, list(rows.values()), f"u{n}") for n in range(4)}
        for told in events.values():
            service.store.append(told)
        queries = [Query(user, None, "display", int(rng.integers(1, 60)), NOW_MS, Blocked()) for user in events]
        answers = service.model.engine.answer(queries, [WIDE] * len(queries))
        assert service.model.worn is not None
        worn = service.model.worn(queries)
        for query, answer, enough in zip(queries, answers, worn, strict=True):
            told = events[str(query.user_id)]
            allowed = [row for row in rows.values() if _may_be_shown(row, told, caps, known, NOW_MS)]
            popular = service._stand_ins.popular(query, service.model, enough)
            for ads in (answer.ads, popular):
                shown = [rows[ad["item_id"]] for ad in ads]
                assert all(row in allowed for row in shown) and is_legal(shown, rules)
                assert len(shown) == query.count or not could_be_longer(shown, allowed, rules)
        service.close()


@pytest.mark.parametrize(("of", "most"), [("ad", 1), ("campaign", 2), ("advertiser", 2)])
async def test_cached_and_late_answers_keep_to_the_caps(
    tmp_path: Path, of: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_enough, "LEAST_SECONDS", 30.0)
    random_bundle(tmp_path / "b", 80, 4)
    caps = [{"of": of, "most": most, "hours": 24}]
    service = _service(tmp_path, frequency_caps=caps, cache={"answer_repeats": True}, deadline={"min_ms": 0.1})
    service.start()

    async def ask(deadline_ms: float = 5000.0, count: int = 8) -> tuple[str, list[dict[str, Any]]]:
        request = service.request_type.model_validate_json(json.dumps({"user_id": "u", "count": count}))
        body = json.loads(await service.ads(request, deadline_ms, time.monotonic()) or b"{}")
        return body["served"]["source"], body["ads"]

    source, first = await ask()
    assert source == "model"
    worn_ad = next(ad for ad in first if of == "ad" or of in ad)
    kind = worn_ad["item_id" if of == "ad" else of]
    # What another replica was told: this one's cache does not hear of it.
    service.store.append([_event(n, "u", worn_ad["item_id"], now_ms() - 1000) for n in range(most)])
    for deadline_ms, count, expected in ((5000.0, 8, "cache"), (0.2, 9, "fallback"), (5000.0, 10, "model")):
        source, ads = await ask(deadline_ms, count)
        assert source == expected and len(ads) == count
        assert kind not in {ad["item_id"] if of == "ad" else ad.get(of) for ad in ads}
    service.close()


async def test_a_history_that_cannot_be_read_leaves_users_unknown(tmp_path: Path, monkeypatch: Any) -> None:
    random_bundle(tmp_path / "b", 40, 4)
    service = _service(tmp_path, frequency_caps=[{"of": "ad", "most": 1, "hours": 1}], deadline={"min_ms": 0.1})
    service.start()

    def slow(user_ids: Any) -> list[None]:
        time.sleep(0.2)
        raise OSError("disk")

    monkeypatch.setattr(service.store, "recent_many", slow)
    request = service.request_type.model_validate_json(json.dumps({"user_id": "u", "count": 8}))
    started = time.monotonic()
    body = json.loads(await service.ads(request, 20.0, started) or b"{}")
    assert body["served"]["source"] == "fallback" and len(body["ads"]) == 8 and time.monotonic() - started < 0.19
    counted = service.metrics.take()[0]  # type: ignore[attr-defined]
    assert counted["adbeam_store_failures", (("operation", "caps"),)] >= 1
    service.close()


@pytest.mark.parametrize("of", ["ad", "campaign", "advertiser"])
@pytest.mark.parametrize("then", ["show", "withhold"])
async def test_caps_that_cannot_be_read_withhold_what_they_might_hold_for(
    tmp_path: Path, monkeypatch: Any, of: str, then: str
) -> None:
    bundle = random_bundle(tmp_path / "b", 80, 4)
    caps = [{"of": of, "most": 1, "hours": 1}]
    service = _service(tmp_path, frequency_caps=caps, frequency_caps_unread=then, deadline={"min_ms": 0.1})
    service.start()
    free = sum(row[of] is None for row in live(bundle)) if of != "ad" else 0

    def broken(user_ids: Any) -> list[None]:
        time.sleep(0.05)
        raise OSError("disk")

    async def ask(deadline_ms: float, **told: Any) -> list[dict[str, Any]]:
        request = service.request_type.model_validate_json(json.dumps({"count": 70, **told}))
        answer = await service.ads(request, deadline_ms, time.monotonic())
        return [] if answer is None else list(json.loads(answer)["ads"])

    monkeypatch.setattr(service.store, "recent_many", broken)
    everything = len(await ask(5000.0))
    assert everything > free, "nobody has no caps"
    for deadline_ms in (5000.0, 20.0):
        ads = await ask(deadline_ms, user_id="u")
        if then == "show":
            assert len(ads) == everything
        else:
            assert len(ads) == free and not any(ad.get(of) for ad in ads)
    inline = await ask(5000.0, user_id="u", history=[{"item_id": "item-1", "timestamp": now_ms()}])
    assert len(inline) == everything, "a history in the request is read"
    counts = service.metrics.take()[0]  # type: ignore[attr-defined]
    assert counts["adbeam_caps_unread", (("then", then),)] >= 2
    service.close()


def test_what_is_worn_says_by_which_cap() -> None:
    worn = Worn(frozenset({"a"}), frozenset({"spring"}), frozenset({"north"}))
    assert worn.refuses("a", Owner()) == "frequency_cap_ad"
    assert worn.refuses("b", Owner("north", "spring")) == "frequency_cap_campaign"
    assert worn.refuses("b", Owner("north")) == "frequency_cap_advertiser"
    assert worn.refuses("b", Owner()) is None and not Worn()
    unread = Worn(withheld=frozenset({"campaign"}))
    assert unread and unread.refuses("b", Owner(None, "spring")) == "frequency_caps_unread"
    assert unread.refuses("b", Owner("north")) is None
    assert Worn(withheld=frozenset({"ad"})).refuses("b", Owner()) == "frequency_caps_unread"


@pytest.mark.parametrize(
    ("cap", "field"),
    [
        ({"of": "ad", "most": 0, "hours": 1}, "most"),
        ({"of": "ad", "most": 1, "hours": 0}, "hours"),
        ({"of": "brand", "most": 1, "hours": 1}, "of"),
        ({"of": "ad", "most": 1}, "hours"),
        ({"of": "ad", "most": 1, "hours": float("nan")}, "hours"),
        ({"of": "ad", "most": 1, "days": 1, "hours": 1}, "days"),
    ],
)
def test_a_cap_that_is_none_is_refused_by_name(cap: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=rf"frequency_caps\.0.*{field}"):
        ServingConfig.parse({"frequency_caps": [cap]}, source="args")


def test_a_user_without_impressions_has_seen_enough_of_nothing(tmp_path: Path) -> None:
    random_bundle(tmp_path / "b", 30, 1)
    service = _service(tmp_path, frequency_caps=[{"of": "advertiser", "most": 1, "hours": 1}])
    assert service.model.worn is not None
    query = Query("nobody", None, "display", 5, NOW_MS, Blocked())
    assert service.model.worn([query]) == [Worn()]
    plain = Query(None, None, "display", 5, NOW_MS, Blocked())
    assert len(service.model.engine.answer([plain], [WIDE])[0].ads) == 5
    service.close()
