"""A debug answer names the best ads that were left out and the rules that kept them out, as brute force has them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.support.list_rules.random_lists import Row, live, random_bundle

from adbeam.beams.cost import BatchCost
from adbeam.bundle import write_again
from adbeam.declared.buckets import told_in_words
from adbeam.declared.encoder import FeatureEncoder, FittedFeature
from adbeam.records import Event
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.list_rules.closed_rows import SAMPLED
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.http.answer_schemas import AdResponse
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import now_ms
from adbeam.targeting.features import FeatureConfig
from adbeam.targeting.told import Value

NOT_HERE = '{"scenes":["mailer"]}'
BODY: dict[str, Any] = {
    "user_id": "u", "count": 8, "scene": "display", "floor_ecpm": 1.0, "debug": True,
    "filters": {
        "blocked_item_ids": ["item-1"], "blocked_advertisers": ["advertiser-1"], "blocked_categories": ["category-2"],
        "allowed_campaigns": ["spring", "summer"], "exclude_seen": True,
    },
}  # fmt: skip


def _service(folder: Path, **args: Any) -> RecommenderService:
    bundle = random_bundle(folder / "b", 120, 3, codebooks=(4, 4, 4))
    rows = len(bundle.catalogue)
    targeting = pa.array([NOT_HERE if number % 7 == 0 else None for number in range(rows)], pa.string())
    write_again(folder / "b", bundle, {}, catalogue=bundle.catalogue.append_column("targeting", targeting))
    config = ServingConfig.resolve({"bundle": "b", **args}, folder)
    policy, store, metrics = read_policy("deadline"), SqliteStore(folder / "h.sqlite"), Metrics()
    model = load_model(config.bundle, config, policy, store, metrics, BatchCost(1.0, 0.5, 0.01))
    event = {"request_id": "r", "user_id": "u", "timestamp": now_ms() - 1000, "action": "impression"}
    store.append([Event.model_validate({**event, "event_id": f"e{n}", "item_id": f"item-{n}"}) for n in (2, 3, 4)])
    return RecommenderService(config, model, policy, store, metrics)


async def _ask(service: RecommenderService, deadline_ms: float = 5000.0, **changes: Any) -> dict[str, Any]:
    request = service.request_type.model_validate_json(json.dumps(BODY | changes))
    answer = await service.ads(request, deadline_ms, time.monotonic())
    assert answer is not None
    return AdResponse.model_validate_json(answer).model_dump()


def _of_the_ad(row: Row, rows: dict[str, Row]) -> set[str]:
    place = int(row["item_id"].removeprefix("item-"))
    worn = {rows[f"item-{n}"]["advertiser"] for n in (2, 3, 4)} - {None}
    said = {
        "blocked_item_ids": place == 1,
        "blocked_advertisers": row["advertiser"] == "advertiser-1",
        "blocked_categories": row["category"] == "category-2",
        "allowed_campaigns": row["campaign"] not in ("spring", "summer"),
        "exclude_seen": place in (2, 3, 4),
        "targeting": place % 7 == 0,
        "frequency_cap_advertiser": row["advertiser"] in worn,
    }
    return {name for name, is_so in said.items() if is_so}


def test_codes_are_told_in_words() -> None:
    encoder = FeatureEncoder(
        (
            FittedFeature("age", "number", "user", edges=(30.0, 50.5)),
            FittedFeature("likes", "list", "user", words=("tea", "wine"), columns=3),
            FittedFeature("store", "category", "request", buckets=8),
        )
    )
    features = {name: FeatureConfig(kind=kind) for name, kind in
                (("age", "number"), ("likes", "list"), ("store", "category"), ("country", "category"))}  # fmt: skip
    for age, words in ((None, "missing"), (29.0, "below 30"), (30, "30 to 50.5"), (1e9, "from 50.5")):
        values: dict[str, Value] = {"likes": ("wine", "egg"), "country": "de"}
        values |= {} if age is None else {"age": age}
        told = told_in_words(features, encoder, values, ["store"])
        assert [one["buckets"] for one in told] == [[words], ["wine", "unknown"], ["missing"], None]
    assert [one["value"] for one in told] == [1e9, ("wine", "egg"), None, "de"]
    assert [one["is_unread"] for one in told] == [False, False, True, False]


async def test_what_was_left_out_is_named_with_every_rule_that_kept_it_out(tmp_path: Path) -> None:
    caps = [{"of": "advertiser", "most": 1, "hours": 1}]
    rules = {"most_per_advertiser": 1, "most_per_category": 3}
    log = {"folder": "requests"}
    service = _service(tmp_path, frequency_caps=caps, list_rules=rules, request_log=log)
    service.start()
    answer = await _ask(service)
    bundle = service.model.engine.bundle  # type: ignore[attr-defined]
    rows = {row["item_id"]: row for row in bundle.catalogue.to_pylist()}
    shown = [rows[ad["item_id"]] for ad in answer["ads"]]
    assert answer["debug"]["source"] == "model"
    named = {one["item_id"]: set(one["rules"]) for one in answer["debug"]["left_out"]}
    assert len(named) > 10 and not set(named) & {row["item_id"] for row in shown}
    of_lists = {"floor_ecpm", "most_per_advertiser", "most_per_category"}
    assert set.union(*named.values()) >= {"targeting", "exclude_seen", "frequency_cap_advertiser", "allowed_campaigns"}
    for item_id, names in named.items():
        row = rows[item_id]
        assert names - of_lists == _of_the_ad(row, rows)
        full = row["advertiser"] is not None and row["advertiser"] in [one["advertiser"] for one in shown]
        assert ("most_per_advertiser" in names) == full
        filled = [one["category"] for one in shown].count(row["category"]) >= 3 and row["category"] is not None
        assert ("most_per_category" in names) == filled
    said = [_of_the_ad(row, rows) for row in rows.values()]
    closed = {name: sum(name in names for names in said) for name in set.union(*said)}
    assert answer["debug"]["closed"] == closed and len(closed) == 7
    counts, _, _ = service.metrics.take()  # type: ignore[attr-defined]
    for name in closed.keys() - {"frequency_cap_advertiser"}:
        assert counts["adbeam_ads_left_out", (("rule", name),)] == SAMPLED * closed[name]
    service.close()
    assert not list((tmp_path / "requests").glob("*.parquet"))


async def test_without_rules_nothing_is_left_out_and_a_plain_answer_says_nothing(tmp_path: Path) -> None:
    service = _service(tmp_path)
    service.start()
    bare = await _ask(service, filters={}, floor_ecpm=0, scene="mailer")
    debug, shown = bare["debug"], [ad["item_id"] for ad in bare["ads"]]
    assert (debug["source"], debug["left_out"], debug["told"], len(shown)) == ("model", [], [], 8)
    assert [one["item_id"] for one in debug["passed"]] == shown
    assert all(one["rules"] == (["targeting"] if one["targeting"] else []) for one in debug["passed"])
    plain = await _ask(service, filters={}, floor_ecpm=0, scene="mailer", debug=False)
    assert plain["debug"] is None and plain["ads"] == bare["ads"]
    service.close()


async def test_an_empty_answer_is_explained_too(tmp_path: Path) -> None:
    service = _service(tmp_path)
    service.start()
    empty = await _ask(service, floor_ecpm=1e9, filters={})
    assert empty["ads"] == [] and len(empty["debug"]["left_out"]) == 50
    assert all("floor_ecpm" in one["rules"] for one in empty["debug"]["left_out"])
    service.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_left_out_ads_fail_a_rule_and_others_only_came_later(tmp_path: Path, seed: int) -> None:
    service = _service(tmp_path, list_rules={"most_per_sid": 1})
    service.start()
    rng = np.random.default_rng(seed)
    bundle = service.model.engine.bundle  # type: ignore[attr-defined]
    rows = {row["item_id"]: row for row in live(bundle)}
    for _ in range(4):
        count = int(rng.integers(1, 20))
        answer = await _ask(service, count=count, filters={"blocked_advertisers": [f"advertiser-{rng.integers(0, 6)}"]},
                            floor_ecpm=0)  # fmt: skip
        sids = [tuple(ad["sid"]) for ad in answer["ads"]]
        for one in answer["debug"]["left_out"]:
            assert ("most_per_sid" in one["rules"]) == (tuple(rows[one["item_id"]]["sid"]) in sids)
    service.close()
