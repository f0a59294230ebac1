"""What an ad of an answer is worth, by what its bundle knows; and that the order of answers stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.bundles import FULL_WIDTHS, write_random_bundle

from adbeam.bundle import Bundle, load_bundle, write_again
from adbeam.catalogue.blocked import Blocked
from adbeam.pricing.scale import MoneyScale, prices_of
from adbeam.pricing.stored import BundleMoney
from adbeam.serving.config import EngineConfig
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.request import Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.sqlite import SqliteStore

QUERY = Query(None, None, "display", 20, 1_700_000_000_000, Blocked())
ITEMS = 60


def random_bundle(folder: Path, money: BundleMoney | None = None) -> Bundle:
    write_random_bundle(folder, ITEMS)
    bundle = load_bundle(folder)
    write_again(folder, bundle, {}, money=money)
    return load_bundle(folder)


def engine_of(folder: Path, bundle: Bundle, **settings: Any) -> ModelEngine:
    return ModelEngine(bundle, EngineConfig.parse(settings), SqliteStore(folder / "h.sqlite"), Metrics())


def priced_money(items: list[str]) -> BundleMoney:
    scale = MoneyScale(0.5, -30.0, -0.1, -6.0, ((), ()), {"display": 2.0})
    n = len(items)
    columns = {"base": np.full(n, -5.0), "own": np.ones(n), "mean": np.full(n, 3.0), "plain": np.full(n, 7.0)}
    return BundleMoney("impressions", prices_of(scale, items, **columns), {"impressions": 1})


def ads(engine: ModelEngine) -> list[dict[str, Any]]:
    return engine.answer([QUERY], [FULL_WIDTHS])[0].ads


def test_without_a_scale_the_number_is_money_of_a_target_and_the_operators_makes_it_cpm(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path)
    plain, scaled = engine_of(tmp_path, bundle), engine_of(tmp_path, bundle, ecpm_scale=7.0)
    assert (plain.prices.unit, scaled.prices.unit) == ("target", "operator")
    for one, other in zip(ads(plain), ads(scaled), strict=True):
        assert other["expected_ecpm"] == pytest.approx(7 * one["expected_ecpm"])
        assert {**other, "expected_ecpm": 0} == {**one, "expected_ecpm": 0}


def test_prices_of_a_bundle_change_the_money_and_not_the_order(tmp_path: Path) -> None:
    before = ads(engine_of(tmp_path, random_bundle(tmp_path / "a")))
    some = [ad["item_id"] for ad in before[:10]]
    engine = engine_of(tmp_path, random_bundle(tmp_path / "b", priced_money(some)))
    after = ads(engine)
    assert engine.prices.unit == "impressions"
    assert [(ad["item_id"], ad["score"]) for ad in after] == [(ad["item_id"], ad["score"]) for ad in before]
    for ad in after[:10]:
        assert ad["expected_ecpm"] == pytest.approx(2 * 1000 * np.exp(-5) * ad["probability"] ** 0.5 * 3.0)
    stored = {row["item_id"]: row["ecpm"] for row in engine.bundle.catalogue.to_pylist()}
    assert [ad["expected_ecpm"] for ad in after[10:]] == [stored[ad["item_id"]] for ad in after[10:]]


def test_a_live_ecpm_moves_prices_of_model_and_fallback_alike(tmp_path: Path) -> None:
    items = random_bundle(tmp_path).catalogue["item_id"].to_pylist()
    bundle = random_bundle(tmp_path, priced_money(items))
    engine = engine_of(tmp_path, bundle)
    first = ads(engine)[0]
    item, stored = first["item_id"], engine.catalogue.index.ecpm(first["item_id"])
    assert stored is not None
    popular = engine.catalogue.popular(ITEMS, engine.prices.fallback)
    shown = {ad["item_id"]: ad["expected_ecpm"] for ad in popular.pick(Blocked(), ITEMS, "display")}
    assert set(shown.values()) == {14.0}
    engine.catalogue.index.update(item, ecpm=1.5 * stored)
    now = {ad["item_id"]: ad["expected_ecpm"] for ad in popular.pick(Blocked(), ITEMS, "elsewhere")}
    assert now[item] == pytest.approx(10.5) and sorted(set(now.values()))[0] == 7.0
    assert next(ad for ad in ads(engine) if ad["item_id"] == item)["expected_ecpm"] == pytest.approx(
        1.5 * first["expected_ecpm"]
    )


def test_money_survives_a_bundle_that_is_written_again(tmp_path: Path) -> None:
    money = priced_money(["x", "y"])
    bundle = random_bundle(tmp_path, money)
    assert bundle.money is not None and bundle.money.prices is not None and money.prices is not None
    assert bundle.money.prices.scale == money.prices.scale and bundle.money.prices.rates == money.prices.rates
    assert bundle.money.found == {"impressions": 1}
