"""Answers under rules of lists, against brute force: always legal, and short only where no ad could be added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.list_rules.random_lists import NOW_MS, could_be_longer, is_legal, live, random_bundle, random_rules

from adbeam.bundle import Bundle
from adbeam.catalogue.blocked import Blocked
from adbeam.list_rules.config import ListRulesConfig
from adbeam.records import CatalogueItem
from adbeam.serving.config import EngineConfig
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.request import Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.sqlite import SqliteStore

NARROW, WIDE = (2, 2, 2), (4, 16, 128)


def _engine(bundle: Bundle, folder: Path, rules: dict[str, int], metrics: Metrics | None = None) -> ModelEngine:
    store = SqliteStore(folder / "h.sqlite")
    most = ListRulesConfig.parse(rules, source="list_rules").most
    return ModelEngine(bundle, EngineConfig(), store, metrics or Metrics(), {}, most)


def _query(count: int, advertisers: frozenset[str] = frozenset()) -> Query:
    return Query(None, None, "display", count, NOW_MS, Blocked(advertisers=advertisers))


@pytest.mark.parametrize("seed", range(6))
def test_answers_are_legal_and_as_long_as_they_can_be(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bundle = random_bundle(tmp_path / "b", int(rng.integers(20, 200)), seed)
    rows = {row["item_id"]: row for row in live(bundle)}
    for number in range(8):
        rules = random_rules(rng) or {"most_per_advertiser": 1}
        (tmp_path / str(number)).mkdir()
        engine = _engine(bundle, tmp_path / str(number), rules)
        queries = [
            _query(int(rng.integers(1, 40)), frozenset({"advertiser-0"} if rng.random() < 0.5 else ())) for _ in "123"
        ]
        for query, answer in zip(queries, engine.answer(queries, [NARROW, WIDE, WIDE]), strict=True):
            shown = [rows[ad["item_id"]] for ad in answer.ads]
            allowed = [row for row in rows.values() if row["advertiser"] not in query.blocked.advertisers]
            assert all(row in allowed for row in shown) and len({row["item_id"] for row in shown}) == len(shown)
            assert is_legal(shown, rules)
            assert len(shown) == query.count or not could_be_longer(shown, allowed, rules)
            scores = [ad["score"] for ad in answer.ads]
            assert scores == sorted(scores, reverse=True)
            if "most_per_category" in rules:
                assert answer.categories == {row["item_id"]: row["category"] for row in shown}


def test_rules_that_bind_nothing_change_no_answer(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path / "b", 300, 7)
    plain = _engine(bundle, tmp_path, {}).answer([_query(10)], [WIDE])[0]
    ruled = _engine(bundle, tmp_path, {"most_per_advertiser": 1000, "most_per_sid": 1000}).answer([_query(10)], [WIDE])[
        0
    ]
    assert plain == ruled


def test_found_ads_come_before_those_that_fill_the_answer(tmp_path: Path) -> None:
    bundle, metrics = random_bundle(tmp_path / "b", 200, 3), Metrics()
    answer = _engine(bundle, tmp_path, {"most_per_advertiser": 2}, metrics).answer([_query(12)], [NARROW])[0]
    found = [ad["probability"] is not None for ad in answer.ads]
    assert found == sorted(found, reverse=True) and not all(found) and any(found)
    assert all(ad["score"] == 0 for ad in answer.ads if ad["probability"] is None)
    popular = [row["item_id"] for row in sorted(live(bundle), key=lambda row: -(row["ecpm"] or -1))]
    filled = [ad["item_id"] for ad in answer.ads if ad["probability"] is None]
    assert filled == sorted(filled, key=popular.index)


def test_what_is_passed_over_is_counted_by_rule(tmp_path: Path) -> None:
    bundle, metrics = random_bundle(tmp_path / "b", 200, 3), Metrics()
    _engine(bundle, tmp_path, {"most_per_sid": 1}, metrics).answer([_query(30)], [WIDE])
    counts = {
        dict(tags)["rule"]: count for (name, tags), count in metrics.take()[0].items() if name.endswith("left_out")
    }
    assert set(counts) == {"most_per_sid"} and counts["most_per_sid"] > 0


def test_ads_that_came_or_changed_are_counted_as_what_they_are_now(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path / "b", 40, 5)
    engine = _engine(bundle, tmp_path, {"most_per_campaign": 1})
    catalogue = engine.catalogue
    for number in range(3):
        item = CatalogueItem(item_id=f"new{number}", title="t", campaign="winter")
        catalogue.insert(item, (0, 0, number))
        catalogue.index.insert(item.item_id, (0, 0, number))
    shown = {ad["item_id"]: ad for ad in engine.answer([_query(40)], [WIDE])[0].ads}
    assert len({f"new{number}" for number in range(3)} & set(shown)) == 1
    row = catalogue.given_to(catalogue.row_of["new0"], None, "another")
    catalogue.given_to(catalogue.row_of["new1"], None, "")
    shown = {ad["item_id"]: ad for ad in engine.answer([_query(40)], [WIDE])[0].ads}
    assert {"new0", "new1", "new2"} <= set(shown) and catalogue.row_of["new0"] == row
