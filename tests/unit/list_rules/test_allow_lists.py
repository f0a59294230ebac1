"""Allow lists and price floors of a request, against brute force; and those that are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.support.list_rules.random_lists import Row, could_be_longer, is_legal, live, random_bundle, random_rules

from adbeam.beams.cost import BatchCost
from adbeam.catalogue.blocked import EVERYTHING, Allowed
from adbeam.catalogue.owners import Owner
from adbeam.serving.config import DeadlineConfig, LimitsConfig, ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Decoded, Query
from adbeam.serving.http.schemas import AdRequest, request_model
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.queue.cache import ResultCache
from adbeam.serving.queue.stand_ins import StandIns
from adbeam.serving.stores.sqlite import SqliteStore

WIDE, NOW_MS = (4, 16, 128), 1_777_000_000_000
LISTS = {"allowed_item_ids": "item_id", "allowed_campaigns": "campaign", "allowed_advertisers": "advertiser"}
Bounded = request_model(LimitsConfig(filter_max=3), DeadlineConfig(), ("display",))


def _model(folder: Path, rules: dict[str, int]) -> tuple[LoadedModel, StandIns, ResultCache]:
    config = ServingConfig.resolve({"bundle": "b", "list_rules": rules}, folder)
    store, metrics = SqliteStore(folder / "h.sqlite"), Metrics()
    cost = BatchCost(1.0, 0.5, 0.01)
    model = load_model(config.bundle, config, read_policy("static"), store, metrics, cost)
    cache = ResultCache(config.cache)
    return model, StandIns(config, cache, metrics), cache


def _random_filters(rng: np.random.Generator, rows: list[Row]) -> dict[str, list[str]]:
    filters = {}
    for name, column in LISTS.items():
        values = sorted({row[column] for row in rows} - {None})
        if rng.random() < 0.5:
            filters[name] = ["unheard of", *rng.choice(values, int(rng.integers(1, len(values) + 1)), replace=False)]
    return filters


def _passes(row: Row, filters: dict[str, list[str]]) -> bool:
    return all(row[LISTS[name]] in named for name, named in filters.items())


def _query(count: int, **fields: Any) -> Query:
    body = {"count": count, "timestamp": NOW_MS, "user_id": "u", **fields}
    return AdRequest.model_validate_json(json.dumps(body)).query("display", NOW_MS)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_answer_holds_only_what_is_allowed_and_as_much_of_it_as_there_is(
    tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    bundle = random_bundle(tmp_path / "b", int(rng.integers(20, 150)), seed)
    rows = {row["item_id"]: row for row in live(bundle)}
    rules = random_rules(rng) if seed else {}
    model, stand_ins, cache = _model(tmp_path, rules)
    for _ in range(12):
        filters = _random_filters(rng, list(rows.values()))
        query = _query(int(rng.integers(1, 30)), filters=filters)
        allowed = [row for row in rows.values() if _passes(row, filters)]
        answer = model.engine.answer([query], [WIDE])[0]
        cache.put("u", query.cache_key("v"), answer)
        for ads in (answer.ads, stand_ins.popular(query, model)):
            shown = [rows[ad["item_id"]] for ad in ads]
            assert all(row in allowed for row in shown) and is_legal(shown, rules)
            assert len(shown) == query.count or not could_be_longer(shown, allowed, rules)


@pytest.mark.parametrize("rules", [{}, {"most_per_advertiser": 2}])
def test_no_ad_below_the_floor_is_in_an_answer_and_no_other_is_left_out_for_it(
    tmp_path: Path, rules: dict[str, int]
) -> None:
    random_bundle(tmp_path / "b", 120, 2)
    model, stand_ins, cache = _model(tmp_path, rules)
    everything = model.engine.answer([_query(1000)], [WIDE])[0].ads
    prices = sorted(ad["expected_ecpm"] for ad in everything)
    floor = prices[len(prices) // 2]
    query = _query(200, floor_ecpm=floor)
    answer = model.engine.answer([query], [WIDE])[0]
    found = [ad for ad in answer.ads if ad["probability"] is not None]
    assert answer.ads and all(ad["expected_ecpm"] >= floor for ad in answer.ads)
    if not rules:
        assert [ad["item_id"] for ad in found] == [a["item_id"] for a in everything if a["expected_ecpm"] >= floor]
    popular = stand_ins.popular(query, model)
    assert popular and all(ad["expected_ecpm"] >= floor for ad in popular)
    assert model.engine.answer([_query(10, floor_ecpm=1e12)], [WIDE])[0].ads == []
    assert stand_ins.popular(_query(10, floor_ecpm=1e12), model) == []
    decoded = Decoded(answer, model.version, 0, WIDE, WIDE, 0.0, 0.0)
    cache.put("u", query.cache_key(model.version), decoded)
    assert stand_ins.cached(query, model) is not None
    assert stand_ins.cached(replace(query, floor_ecpm=0.0), model) is None


def test_a_floor_of_nothing_and_no_lists_change_no_answer(tmp_path: Path) -> None:
    random_bundle(tmp_path / "b", 60, 1)
    model, _, _ = _model(tmp_path, {})
    query = _query(10)
    assert query.allowed is EVERYTHING and not EVERYTHING
    assert model.engine.answer([query], [WIDE]) == model.engine.answer([_query(10, floor_ecpm=0)], [WIDE])


def test_a_list_that_does_not_name_an_ad_refuses_it() -> None:
    allowed = Allowed(frozenset({"a"}), frozenset({"spring"}))
    assert allowed.refuses("a", Owner("x", "spring")) is None
    assert allowed.refuses("b", Owner("x", "spring")) == "allowed_item_ids"
    assert allowed.refuses("a", Owner("x", None)) == "allowed_campaigns"
    assert Allowed(advertisers=frozenset({"y"})).refuses("a", Owner("x", None)) == "allowed_advertisers"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filters": {"allowed_item_ids": []}}, "allowed_item_ids"),
        ({"filters": {"allowed_campaigns": ["a", "b", "c", "d"]}}, "allowed_campaigns"),
        ({"filters": {"allowed_advertisers": [""]}}, "allowed_advertisers"),
        ({"filters": {"allowed_brands": ["a"]}}, "allowed_brands"),
        ({"floor_ecpm": -1}, "floor_ecpm"),
        ({"floor_ecpm": 1e13}, "floor_ecpm"),
        ({"floor_ecpm": "dear"}, "floor_ecpm"),
    ],
)
def test_what_is_no_list_and_no_floor_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Bounded.model_validate_json(json.dumps(body))
    assert Bounded.model_validate_json(json.dumps({"filters": {"allowed_campaigns": ["a", "b"]}}))
