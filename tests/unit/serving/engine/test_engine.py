"""A bundle behind the engine: filters, cold start, the catalogue, calibration, and following the bundle in force."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.bundles import ADVERTISERS, CATEGORIES, FULL_WIDTHS, random_model_config, write_random_bundle

from adbeam.beams.cost import BatchCost
from adbeam.beams.ladder import Ladder
from adbeam.bundle import load_bundle, point_current
from adbeam.catalogue.blocked import Blocked
from adbeam.errors import UserError
from adbeam.records import Event
from adbeam.serving.config import EngineConfig, ServingConfig
from adbeam.serving.deploy.bundle_follower import BundleFollower
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.calibrate import calibrate, timed
from adbeam.serving.engine.engine import ModelEngine, full_widths
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.request import HistoryEvent, Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore

COST = BatchCost(1.0, 0.5, 0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    write_random_bundle(root, 300)
    return root


@pytest.fixture
def engine(folder: Path, tmp_path: Path) -> ModelEngine:
    return ModelEngine(load_bundle(folder), EngineConfig(), SqliteStore(tmp_path / "h.sqlite"), Metrics())


def query(
    count: int = 10, user_id: str | None = None, history: tuple[HistoryEvent, ...] | None = None, **blocked: Any
) -> Query:
    sets: dict[str, Any] = {name: value if name == "seen" else frozenset(value) for name, value in blocked.items()}
    return Query(user_id, history, "display", count, 1_700_000_000_000, Blocked(**sets))


def answer(engine: ModelEngine, asked: Query, widths: tuple[int, ...] = FULL_WIDTHS) -> list[dict[str, Any]]:
    return engine.answer([asked], [widths])[0].ads


def test_only_active_ads_come_in_falling_order_of_score(engine: ModelEngine) -> None:
    ads = answer(engine, query(20))
    assert len(ads) == 20
    scores = [ad["score"] for ad in ads]
    assert scores == sorted(scores, reverse=True)
    rows = {row["item_id"]: row for row in engine.bundle.catalogue.to_pylist()}
    for ad in ads:
        row = rows[ad["item_id"]]
        assert (row["kind"], row["status"]) == ("ad", "active")
        assert (ad["title"], ad["price"], ad["sid"]) == (row["title"], row["price"], row["sid"])
        assert ad["score"] == pytest.approx(ad["probability"] * ad["expected_ecpm"])


def test_filters_leave_out_what_they_name_and_nothing_else(engine: ModelEngine) -> None:
    everything = [ad["item_id"] for ad in answer(engine, query(100), (16, 256, 512))]
    blocked = answer(engine, query(100, item_ids=everything[:5]), (16, 256, 512))
    assert not {ad["item_id"] for ad in blocked} & set(everything[:5])
    rows = {row["item_id"]: row for row in engine.bundle.catalogue.to_pylist()}
    kept = answer(engine, query(100, advertisers=[ADVERTISERS[0]], categories=[CATEGORIES[1]]), (16, 256, 512))
    assert kept
    for ad in kept:
        assert rows[ad["item_id"]]["advertiser"] != ADVERTISERS[0]
        assert rows[ad["item_id"]]["category"] != CATEGORIES[1]
    assert answer(engine, query(5, categories=CATEGORIES)) == []
    assert answer(engine, query(5, advertisers=["unheard of"], item_ids=["nor this"])) == answer(engine, query(5))


def test_the_stored_history_is_the_context_and_can_be_left_out(engine: ModelEngine) -> None:
    cold = engine.answer([query(user_id="u")], [FULL_WIDTHS])[0]
    assert cold.cold_start
    first = cold.ads[0]["item_id"]
    events = [
        Event(event_id=f"e{n}", request_id="r", user_id="u", timestamp=1_600_000_000_000 + n, item_id=item,
              action="conversion", price=3.0)
        for n, item in enumerate([first, "item-5", "unknown item"])
    ]  # fmt: skip
    engine._known._store.append(events)
    warm = engine.answer([query(user_id="u")], [FULL_WIDTHS])[0]
    assert not warm.cold_start
    assert [ad["probability"] for ad in warm.ads] != [ad["probability"] for ad in cold.ads]
    unseen = engine.answer([query(user_id="u", seen=True)], [FULL_WIDTHS])[0]
    assert first not in {ad["item_id"] for ad in unseen.ads}
    inline = tuple(HistoryEvent(item_id=e.item_id, timestamp=e.timestamp, value=3.0) for e in events)
    same = engine.answer([query(user_id="u", history=inline)], [FULL_WIDTHS])[0]
    assert same.ads == warm.ads


def test_a_store_that_cannot_be_read_makes_an_unknown_user(
    engine: ModelEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(user_ids: list[str]) -> None:
        raise OSError("gone")

    monkeypatch.setattr(engine._known._store, "recent_many", gone)
    assert engine.answer([query(user_id="u")], [FULL_WIDTHS])[0].cold_start


def test_popular_ads_are_the_most_valuable_active_ones_and_filterable(engine: ModelEngine) -> None:
    popular = engine.catalogue.popular(50)
    ads = popular.pick(Blocked(), 10)
    ecpms = [ad["expected_ecpm"] for ad in ads]
    assert len(ads) == 10 and ecpms == sorted(ecpms, reverse=True)
    rows = [row for row in engine.bundle.catalogue.to_pylist() if row["kind"] == "ad" and row["status"] == "active"]
    assert ecpms[0] == max(row["ecpm"] for row in rows)
    left = popular.pick(Blocked(frozenset([ads[0]["item_id"]])), 10)
    assert left[0]["item_id"] == ads[1]["item_id"]


def test_calibration_finds_that_more_requests_and_wider_beams_cost_more(engine: ModelEngine) -> None:
    cost = calibrate(engine, Ladder.build((64, 128, 256)), max_batch=8, seconds=0.5)
    assert cost.batch_ms([449] * 8) > cost.batch_ms([449]) > 0
    assert cost.request_ms(449) > cost.request_ms(10)


def test_calibration_measures_what_fits_the_time() -> None:
    now, decoded = iter(range(10_000)), list[tuple[int, tuple[int, ...]]]()
    schedules = [(16, 32, 64), (4, 8, 16)]

    def measured(seconds: float) -> tuple[list[tuple[int, int]], list[float]]:
        return timed(lambda *cell: decoded.append(cell), (1, 2), schedules, seconds, lambda: float(next(now)))

    shapes, times_ms = measured(seconds=30)
    assert sorted(shapes) == [(1, 29), (1, 113), (2, 29), (2, 113)] and set(times_ms) == {1000.0}
    decoded.clear()
    assert measured(seconds=0) == ([(1, 29)], [1000.0])
    assert decoded == [(1, (4, 8, 16))] * 2  # once to warm up


def test_full_widths_come_from_the_bundle_or_the_configuration(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert full_widths(bundle, EngineConfig()) == FULL_WIDTHS
    assert full_widths(bundle, EngineConfig(widths=(2, 4, 8))) == (2, 4, 8)
    with pytest.raises(UserError, match=r"engine\.widths"):
        full_widths(bundle, EngineConfig(widths=(2, 4)))


def test_a_bundle_of_another_decoder_is_refused_by_name(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert full_widths(bundle, EngineConfig(decoder="lazyar")) == FULL_WIDTHS
    with pytest.raises(UserError, match=r"engine.decoder.*gpr") as refusal:
        full_widths(bundle, EngineConfig(decoder="gpr"))
    assert bundle.version in str(refusal.value) and "lazyar" in str(refusal.value)


timeless_loader = partial(load_model, cost=COST)


async def test_following_takes_a_new_bundle_and_refuses_a_broken_one(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    first = write_random_bundle(root, 60, seed=1)
    config, policy, metrics = ServingConfig.resolve({"bundle": str(root)}), read_policy("static"), Metrics()
    store = SqliteStore(tmp_path / "h.sqlite")
    model = timeless_loader(root, config, policy, store, metrics)
    service = RecommenderService(config, model, policy, store, metrics)
    service.start()
    follower = BundleFollower(service, timeless_loader, metrics)

    async def served() -> str:
        answer = await service.ads(service.request_type(), 5000, time.monotonic())
        assert answer is not None
        return answer.decode().split('"model_version":"')[1].split('"')[0]

    try:
        assert await follower.update() and await served() == first.name
        second = write_random_bundle(root, 60, seed=2)
        assert await follower.update() and await served() == second.name
        broken = write_random_bundle(root, 60, seed=3)
        weights = bytearray((broken / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (broken / "model.safetensors").write_bytes(weights)
        assert not await follower.update() and await served() == second.name
        assert not await follower.update()
        point_current(root, first.name)
        assert await follower.update() and await served() == first.name
        first.rename(root / "renamed")
        point_current(root, "renamed")
        assert await follower.update() and await served() == first.name
        loads = service.model
        assert await follower.update() and service.model is loads  # not loaded again at every look
        (root / "CURRENT").write_text("../elsewhere")
        assert not await follower.update() and await served() == first.name
    finally:
        await asyncio.to_thread(service.close)


def test_weights_that_are_not_numbers_are_refused_before_they_serve(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from adbeam import artifacts

    path = write_random_bundle(tmp_path / "b", 60)
    weights = load_file(path / "model.safetensors")
    save_file({name: tensor * float("nan") for name, tensor in weights.items()}, path / "model.safetensors")
    manifest = artifacts.read_manifest(path, verify=False)
    (path / "manifest.json").unlink()
    artifacts.write_manifest(path, {key: value for key, value in manifest.items() if key != "files"})
    config = ServingConfig.resolve({"bundle": str(path)})
    with pytest.raises(UserError):
        timeless_loader(path, config, read_policy("static"), SqliteStore(tmp_path / "h.sqlite"), Metrics())


def test_an_empty_catalogue_is_refused(tmp_path: Path) -> None:
    path = write_random_bundle(tmp_path / "b", 1, config=random_model_config())
    bundle = load_bundle(path)
    paused = bundle.catalogue.set_column(
        bundle.catalogue.column_names.index("status"), "status", [np.array(["paused"])]
    )
    from dataclasses import replace

    with pytest.raises(UserError, match="no active ad"):
        ModelEngine(replace(bundle, catalogue=paused), EngineConfig(), SqliteStore(tmp_path / "h"), Metrics())
