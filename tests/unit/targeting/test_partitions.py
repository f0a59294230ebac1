"""Partitions: an ad that names none is for nobody, a request that tells none gets no ad; everywhere alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.support.asgi import call
from tests.support.bundles import write_random_bundle
from tests.support.targeting.random_rules import FEATURES, random_text, random_unread

from adbeam.beams.cost import BatchCost
from adbeam.bundle import load_bundle, write_again
from adbeam.errors import UserError
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.http.app import build_api
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.targeting.features import FeatureConfig, Features
from adbeam.targeting.live import NEVER, TAIL, LiveTargeting
from adbeam.targeting.rules import read_rules, stored_rules
from adbeam.targeting.told import Told

COUNTRY = {"country": FEATURES["country"].model_copy(update={"partition": True})}
BOTH: Features = {**FEATURES, **COUNTRY, "interests": FeatureConfig(kind="list", partition=True)}


def _is_for(text: str | None, told: Told, names: list[str]) -> bool:
    """Brute force: every partition is named by `in`, told by the request, and all rules hold."""
    raw = {} if text is None else json.loads(text)
    for name in names:
        if "in" not in raw.get(name, {}) or raw[name].get("missing") or not told.features.get(name):
            return False
    return text is None or stored_rules(text).hold(told)


@pytest.mark.parametrize("features", [{**FEATURES, **COUNTRY}, BOTH], ids=["one", "two"])
@pytest.mark.parametrize("seed", range(3))
def test_masks_and_single_rules_deny_by_default_while_ads_change(seed: int, features: Features) -> None:
    rng = np.random.default_rng(seed)
    names = [name for name, feature in features.items() if feature.partition]
    texts: list[str | None] = [random_text(rng) if seed else None for _ in range(150)]
    live = LiveTargeting(pa.chunked_array([pa.array(texts, pa.string())]), features, len(texts))
    for step in range(5 * TAIL):
        text, row = random_text(rng), int(rng.integers(0, len(texts) + 1))
        rules = None if text is None else json.loads(text)
        if rules and any("in" not in rules[n] or rules[n].get("missing") for n in names if n in rules):
            continue  # refused at the border
        live.put(row, rules)
        texts[row : row + 1] = [text]
        if step % 8 == 0:
            told = random_unread(rng)
            mask = live.allow(told, len(texts))
            assert mask is not None
            assert mask.tolist() == [_is_for(text, told, names) for text in texts]
            heard = [live.text(row) for row in range(len(texts))]
            assert [text is None or stored_rules(text).hold(told) for text in heard] == mask.tolist()


def test_without_any_rules_nobody_gets_anything() -> None:
    live = LiveTargeting(None, COUNTRY, 3)
    told = Told((("country", "de"),), "home", 0)
    live.put(3, {"country": {"in": ["de"]}})
    live.put(4, {"scenes": ["home"]})
    live.put(5, None)
    mask = live.allow(told, 6)
    assert mask is not None and mask.tolist() == [False] * 3 + [True, False, False]
    assert [live.text(row) for row in (0, 4, 5)] == [NEVER] * 3
    nowhere = live.allow(Told((), "home", 0), 6)
    assert nowhere is not None and not nowhere.any()


@pytest.mark.parametrize(
    "rule", ['{"not_in":["de"]}', '{"in":["de"],"missing":true}', '{"not_in":["x"],"missing":true}']
)
def test_a_rule_that_opens_a_partition_is_refused_by_name_and_holds_for_nobody(rule: str) -> None:
    text = f'{{"country":{rule}}}'
    with pytest.raises(UserError, match=r"targeting\.country.*is a partition"):
        read_rules(text, COUNTRY)
    live = LiveTargeting(pa.chunked_array([pa.array([text])]), COUNTRY, 1)  # prepared before it was a partition
    for country in ("de", "at"):
        mask = live.allow(Told((("country", country),), "home", 0), 1)
        assert mask is not None and not mask.any() and live.text(0) == NEVER


def test_numbers_are_no_partitions() -> None:
    with pytest.raises(UserError, match=r"features\.age.*a number names none"):
        ServingConfig.parse({"features": {"age": {"kind": "number", "partition": True}}})


async def test_every_kind_of_answer_and_bids_keep_partitions_apart(tmp_path: Path) -> None:
    bundle = load_bundle(write_random_bundle(tmp_path / "b", 60))
    rules = ['{"country":{"in":["DEU"]}}', '{"country":{"in":["AUT"]}}', None]
    texts = pa.array([rules[row % 3] for row in range(len(bundle.catalogue))], pa.string())
    write_again(tmp_path / "b", bundle, {}, catalogue=bundle.catalogue.append_column("targeting", texts))
    config = ServingConfig.resolve(
        {"bundle": "b", "features": {"country": {"kind": "category", "partition": True}},
         "cache": {"enabled": True, "answer_repeats": True}, "deadline": {"min_ms": 0.001, "max_ms": 20_000},
         "admin": {"mode": "bearer", "keys_file": "keys"}, "updates": {"path": "ads.sqlite", "poll_ms": 5},
         "engine": {"ecpm_scale": 1000.0}}, tmp_path,
    )  # fmt: skip
    (tmp_path / "keys").write_text("key\n")
    policy, store = read_policy("deadline"), SqliteStore(tmp_path / "h.sqlite")
    model = load_model(config.bundle, config, policy, store, Metrics(), BatchCost(1.0, 0.5, 0.01))
    service = RecommenderService(config, model, policy, store, Metrics())
    service.start()
    api = build_api(service)
    of = {str(row["item_id"]): row["targeting"] for row in load_bundle(tmp_path / "b").catalogue.to_pylist()}

    async def ask(country: str | None, deadline_ms: float = 10_000.0) -> tuple[str, set[Any]]:
        context = {} if country is None else {"country": country}
        body = {"user_id": f"u{country}", "count": 60, "context": context, "deadline_ms": deadline_ms}
        reply = await call(api, "POST", "/v1/ads", body)
        if reply.status == 204:
            return "none", set()
        assert reply.status == 200, reply.json
        return reply.json["served"]["source"], {ad["item_id"] for ad in reply.json["ads"]}

    for country, text in (("DEU", rules[0]), ("AUT", rules[1])):
        for deadline_ms, expected in ((0.001, "fallback"), (10_000.0, "model"), (10_000.0, "cache")):
            source, found = await ask(country, deadline_ms)
            assert source == expected and found and {of[item] for item in found} == {text}
    assert await ask(None) == ("none", set()) and (await ask("FRA"))[1] == set()
    for geo, status in (({"country": "DEU"}, 200), ({}, 204)):
        bid = {"id": "r", "imp": [{"id": "1"}], "device": {"geo": geo}, "tmax": 9000}
        assert (await call(api, "POST", "/v1/openrtb", bid)).status == status
    mine = next(iter(item for item, text in of.items() if text == rules[0]))
    change = {"operation": "update", "item_id": mine, "targeting": {"country": {"in": ["FRA"]}}}
    headers = {"Authorization": "Bearer key"}
    assert (await call(api, "POST", "/v1/admin/ads", {"changes": [change]}, headers)).status == 200
    assert (await ask("FRA"))[1] == {mine}
    opened = {**change, "targeting": {"country": {"not_in": ["FRA"]}}}
    refused = await call(api, "POST", "/v1/admin/ads", {"changes": [opened]}, headers)
    assert refused.status == 422 and "partition" in str(refused.json)
    assert (await call(api, "POST", "/v1/admin/ads", {"changes": [{**change, "targeting": {}}]}, headers)).status == 200
    assert (await ask("FRA"))[1] == set(), "an ad for everybody is for nobody here"
    service.close()
