"""A bundle of a log without prices: the eCPM of the ad takes the place of what conversions brought."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.support.bundles import FULL_WIDTHS, random_catalogue, random_model_config, write_random_bundle

from adbeam.bundle import load_bundle
from adbeam.catalogue.blocked import Blocked
from adbeam.serving.config import EngineConfig
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.request import Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.openrtb.bids import Bidding
from adbeam.serving.openrtb.config import OpenRtbConfig
from adbeam.serving.openrtb.money import Money
from adbeam.serving.openrtb.places import Place
from adbeam.serving.stores.sqlite import SqliteStore

QUERY = Query(None, None, "display", 20, 1_700_000_000_000, Blocked())
ITEMS = 60


def engine_of(folder: Path, catalogue: pa.Table | None = None, order_by: str = "expected_value") -> ModelEngine:
    config = random_model_config()
    write_random_bundle(folder, ITEMS, catalogue=catalogue, ecpm_means=[0.0] * config.ecpm_buckets)
    settings = EngineConfig.parse({"order_by": order_by})
    return ModelEngine(load_bundle(folder), settings, SqliteStore(folder / "h.sqlite"), Metrics())


def without_ecpm(*items: int) -> pa.Table:
    """The random catalogue where these items, or all, have no eCPM."""
    table = random_catalogue(ITEMS, random_model_config())
    kept = [None if not items or row in items else ecpm for row, ecpm in enumerate(table["ecpm"].to_pylist())]
    place = table.column_names.index("ecpm")
    return table.set_column(place, table.schema.field(place), pa.array(kept, pa.float64()))


def answer(engine: ModelEngine) -> list[dict[str, Any]]:
    return engine.answer([QUERY], [FULL_WIDTHS])[0].ads


@pytest.mark.parametrize("order_by", ["expected_value", "expected_ecpm", "log_probability"])
def test_the_catalogues_ecpm_is_the_expected_one_and_orders_the_answer(tmp_path: Path, order_by: str) -> None:
    engine = engine_of(tmp_path, order_by=order_by)
    stored = {row["item_id"]: row["ecpm"] for row in engine.bundle.catalogue.to_pylist()}
    ads = answer(engine)
    assert len(ads) == 20 and all(ad["expected_ecpm"] == stored[ad["item_id"]] for ad in ads)
    scores = [ad["score"] for ad in ads]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0
    found = engine.answer([QUERY], [FULL_WIDTHS])[0]
    assert found.expected_ecpm == pytest.approx(sum(ad["expected_ecpm"] for ad in ads))


def test_the_live_ecpm_counts_at_once(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    last = answer(engine)[-1]["item_id"]
    engine.catalogue.index.update(last, ecpm=1e9)
    first = answer(engine)[0]
    assert first["item_id"] == last and first["expected_ecpm"] == 1e9


def test_an_ad_without_an_ecpm_comes_last_and_is_not_bid(tmp_path: Path) -> None:
    shown = [int(ad["item_id"].removeprefix("item-")) for ad in answer(engine_of(tmp_path / "all"))]
    ads = answer(engine_of(tmp_path / "some", without_ecpm(shown[0])))
    assert ads[-1]["item_id"] == f"item-{shown[0]}" and ads[-1]["expected_ecpm"] == 0.0
    bidding = Bidding("r", OpenRtbConfig(), Money("USD"), Metrics(), lambda item_id: True)
    bidding.fill([Place(str(number)) for number in range(30)], ads)
    assert {bid["crid"] for bid in bidding.found} == {ad["item_id"] for ad in ads[:-1]}


def test_where_no_ad_has_an_ecpm_answers_come_by_probability_as_before(tmp_path: Path) -> None:
    ads = answer(engine_of(tmp_path, without_ecpm()))
    probabilities = [ad["probability"] for ad in ads]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {(ad["expected_ecpm"], ad["score"]) for ad in ads} == {(0.0, 0.0)}


def test_a_bundle_with_prices_keeps_the_buckets_ecpm(tmp_path: Path) -> None:
    write_random_bundle(tmp_path, ITEMS)
    engine = ModelEngine(load_bundle(tmp_path), EngineConfig(), SqliteStore(tmp_path / "h.sqlite"), Metrics())
    before = answer(engine)
    for ad in before:
        engine.catalogue.index.update(ad["item_id"], ecpm=1e9)
    after = {ad["item_id"]: ad["expected_ecpm"] for ad in answer(engine)}
    assert after == {ad["item_id"]: ad["expected_ecpm"] for ad in before}
