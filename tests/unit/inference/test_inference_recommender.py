"""The order of ads that share a semantic ID: offline as it is served, or by popularity where that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.support.bundles import write_random_bundle

from adbeam.bundle import Bundle, load_bundle
from adbeam.catalogue.blocked import Blocked
from adbeam.inference.recommender import Recommender
from adbeam.logs.requests import Request, UserSequence, requests_in
from adbeam.logs.trending import WINDOWS_HOURS, TrendTable
from adbeam.model import build_model
from adbeam.serving.config import EngineConfig
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.request import Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.sqlite import SqliteStore


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Forty ads in pairs that share a SID."""
    from dataclasses import replace

    bundle = load_bundle(write_random_bundle(tmp_path_factory.mktemp("bundle"), 40))
    sids = [row["sid"] for row in bundle.catalogue.to_pylist()]
    shared = pa.array([sids[row - row % 2] for row in range(40)], pa.list_(pa.int32()))
    table = bundle.catalogue
    for name, value in (
        ("sid", shared),
        ("kind", pa.array(["ad"] * 40)),
        ("status", pa.array(["active"] * 40)),
        ("ecpm", pa.array([float(row % 2) for row in range(36)] + [5.0] * 4)),
    ):
        table = table.set_column(table.column_names.index(name), name, value)
    return replace(bundle, catalogue=table)


def request() -> Request:
    events = UserSequence(
        "u",
        np.array([0, 2]),
        np.array(["r1", "r2"], dtype=object),
        np.array([1, 5]),
        np.array(["item-3", "item-4"], dtype=object),
        np.array([0, 0]),
        np.array(["display"] * 2, dtype=object),
        np.array([3, 3]),
        np.ones(2, np.float32),
    )
    return requests_in(events, "test")[0]


def test_ads_of_one_sid_come_by_ecpm_then_recency_offline_and_served_alike(bundle: Bundle, tmp_path: Path) -> None:
    ranked = Recommender.of(bundle).rank([request()], (16, 64, 64), 40)[0]
    place = {item: n for n, item in enumerate(ranked)}
    assert len(place) == 40
    assert all(place[f"item-{row + 1}"] == place[f"item-{row}"] - 1 for row in range(0, 40, 2))
    engine = ModelEngine(bundle, EngineConfig(order_by="log_probability"), SqliteStore(tmp_path / "h"), Metrics())
    asked = Query("u", None, "display", 40, 5, Blocked())
    served = [ad["item_id"] for ad in engine.answer([asked], [(16, 64, 64)])[0].ads]
    assert all(served.index(f"item-{row + 1}") == served.index(f"item-{row}") - 1 for row in range(0, 40, 2))


def test_popularity_breaks_ties_where_it_is_given(bundle: Bundle) -> None:
    popularity = {f"item-{row}": 3 for row in range(0, 40, 2)}
    ranked = Recommender.of(bundle, popularity=popularity).rank([request()], (16, 64, 64), 40)[0]
    assert all(ranked.index(f"item-{row}") == ranked.index(f"item-{row + 1}") - 1 for row in range(0, 40, 2))


def test_ads_come_with_their_expected_ecpm_where_it_is_asked_for(bundle: Bundle) -> None:
    model = build_model(bundle.model_config)
    model.load_state_dict(bundle.weights)
    recommender = Recommender(model, bundle.catalogue, bundle.settings.ecpm_means, ecpm=True)
    asked = ([request()], (16, 64, 64), 10)
    (answer,) = recommender.valued(*asked)
    assert [ad for ad, _ in answer] == Recommender.of(bundle).rank(*asked)[0]
    means = bundle.settings.ecpm_means
    assert all(min(means) <= ecpm <= max(means) for _, ecpm in answer)
    assert all(np.isnan(ecpm) for _, ecpm in Recommender.of(bundle).valued(*asked)[0])


def test_the_history_is_what_has_a_sid(bundle: Bundle) -> None:
    history = Recommender.of(bundle).history(request())
    assert history.code_HT.tolist() == [bundle.catalogue.to_pylist()[3]["sid"]]


def test_a_model_that_does_not_look_at_trends_ranks_beside_a_log_that_has_some(bundle: Bundle) -> None:
    shares = {f"share_{hours}h": [1.0] for hours in WINDOWS_HOURS}
    trends = TrendTable(pa.table({"hour": [0], "item_id": ["item-4"], **shares}))
    asked = ([request()], (16, 64, 64), 40)
    assert Recommender.of(bundle, trends=trends).rank(*asked) == Recommender.of(bundle).rank(*asked)
