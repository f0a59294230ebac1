"""Cached and popular answers: the rules of lists hold as they are sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.list_rules.random_lists import NOW_MS, could_be_longer, is_legal, live, random_bundle, random_rules
from tests.support.replicas import write_tokenized_bundle
from tests.support.serving.following_model import following_config, following_model, live_ads

from adbeam.beams.cost import BatchCost
from adbeam.catalogue.blocked import Blocked
from adbeam.catalogue.updates import AdChange
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Decoded, Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.queue.cache import ResultCache
from adbeam.serving.queue.stand_ins import StandIns
from adbeam.serving.stores.sqlite import SqliteStore

WIDE, ADS = (8, 32, 512), 30


def _query(count: int, **fields: Any) -> Query:
    return Query("u", None, "display", count, NOW_MS, Blocked(), **fields)


def _decoded(model: LoadedModel, query: Query) -> Decoded:
    return Decoded(model.engine.answer([query], [WIDE])[0], model.version, 0, WIDE, WIDE, 0.0, 0.0)


def _model(folder: Path, **args: Any) -> tuple[LoadedModel, StandIns, ResultCache]:
    config = ServingConfig.resolve({"bundle": "b", **args}, folder)
    store = SqliteStore(folder / "h.sqlite")
    model = load_model(config.bundle, config, read_policy("static"), store, Metrics(), BatchCost(1.0, 0.5, 0.01))
    cache = ResultCache(config.cache)
    return model, StandIns(config, cache, Metrics()), cache


@pytest.mark.parametrize("seed", range(4))
def test_popular_answers_are_legal_and_as_long_as_they_can_be(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bundle, rules = random_bundle(tmp_path / "b", 80, seed), random_rules(rng) or {"most_per_sid": 1}
    model, stand_ins, _ = _model(tmp_path, list_rules=rules)
    rows = {row["item_id"]: row for row in live(bundle)}
    for count in (1, 5, 40):
        shown = [rows[ad["item_id"]] for ad in stand_ins.popular(_query(count), model)]
        assert shown and is_legal(shown, rules) and len(shown) <= count
        assert len(shown) == count or not could_be_longer(shown, list(rows.values()), rules)


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[tuple[LoadedModel, ServingConfig]]:
    write_tokenized_bundle(tmp_path / "b", ADS)
    config = following_config(tmp_path / "b", tmp_path, list_rules={"most_per_campaign": 1, "most_per_category": 30})
    model = following_model(config, tmp_path)
    yield model, config
    live_ads(model).stop()


def _change(model: LoadedModel, **fields: Any) -> None:
    live_ads(model).change([AdChange(**fields)])


def test_a_kept_answer_loses_what_is_gone_and_is_filled_up_again(followed: tuple[LoadedModel, ServingConfig]) -> None:
    model, config = followed
    for number in range(3):
        _change(model, operation="update", item_id=f"ad{number}", campaign="spring")
    cache = ResultCache(config.cache)
    stand_ins, query = StandIns(config, cache, Metrics()), _query(8)
    decoded = _decoded(model, query)
    assert sum("campaign" in ad for ad in decoded.answer.ads) <= 1 and len(decoded.answer.ads) == 8
    cache.put("u", query.cache_key(model.version), decoded)
    found = stand_ins.cached(query, model)
    assert found is not None and found.answer.ads == decoded.answer.ads
    gone, moved = (ad["item_id"] for ad in decoded.answer.ads[:2])
    _change(model, operation="pause", item_id=gone)
    _change(model, operation="update", item_id=moved, campaign="spring")
    found = stand_ins.cached(query, model)
    assert found is not None
    ids = [ad["item_id"] for ad in found.answer.ads]
    assert not {gone, moved} & set(ids) and len(set(ids)) == 8
    assert ids[:6] == [ad["item_id"] for ad in decoded.answer.ads[2:]]
    assert [ad["score"] for ad in found.answer.ads[6:]] == [0.0, 0.0]
    assert sum("campaign" in ad for ad in found.answer.ads) <= 1


def test_an_ad_of_another_category_leaves_a_kept_answer(followed: tuple[LoadedModel, ServingConfig]) -> None:
    model, config = followed
    cache = ResultCache(config.cache)
    stand_ins, query = StandIns(config, cache, Metrics()), _query(8)
    decoded = _decoded(model, query)
    cache.put("u", query.cache_key(model.version), decoded)
    ad = decoded.answer.ads[0]
    item = {"item_id": ad["item_id"], "title": "tea", "category": "elsewhere", "advertiser": ad.get("advertiser")}
    live_ads(model).change([AdChange.model_validate({"operation": "insert", "item_id": ad["item_id"], "item": item})])
    found = stand_ins.cached(query, model)
    assert found is not None and ad["item_id"] not in {one["item_id"] for one in found.answer.ads}


def test_without_rules_a_kept_answer_is_sent_as_it_is(tmp_path: Path) -> None:
    random_bundle(tmp_path / "b", 60, 1)
    model, stand_ins, cache = _model(tmp_path)
    query = _query(5)
    decoded = _decoded(model, query)
    cache.put("u", query.cache_key(model.version), decoded)
    found = stand_ins.cached(query, model)
    assert found is not None and found.answer.ads == decoded.answer.ads
    assert stand_ins.popular(query, model) == model.popular(Blocked(), 5, "display")
    assert stand_ins.cached(_query(6), model) is None
