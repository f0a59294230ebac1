"""Declared features of items: the catalogue's columns reach the history and the reward model, by one function."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.support.declared.told_log import prepare_told, told_config, write_told_log
from tests.support.samples import SampleLog

from adbeam.bundle import Bundle, load_bundle
from adbeam.catalogue.ads import AdCatalogue
from adbeam.catalogue.blocked import Blocked
from adbeam.config import Config
from adbeam.decoding.engines.context_reader import reader_of
from adbeam.errors import UserError
from adbeam.export.export_bundle import export
from adbeam.inference.recommender import Recommender
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import Request, read_sequences, requests_in
from adbeam.logs.told.items import item_codes
from adbeam.model.lazyar import LazyAR
from adbeam.records import CatalogueItem
from adbeam.rewards.config import RewardConfig
from adbeam.rewards.features import CATEGORICAL, Past
from adbeam.rewards.scoring import Question, RewardModel
from adbeam.rewards.trainer import reward
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.contexts import ContextBuilder
from adbeam.serving.engine.request import Query
from adbeam.serving.stores.store import user_history
from adbeam.targeting.features import FeatureConfig
from adbeam.targeting.rules import read_rules
from adbeam.training.data.build_rows import build_rows
from adbeam.training.trainer import train

SMALL = {"users": 12, "items": 40, "visits": 10}
ITEM: dict[str, Any] = {"source": "item", "model": True}
FEATURES: dict[str, Any] = {
    "maker": {"kind": "category", "column": "advertiser", "buckets": 300, **ITEM},
    "price": {"kind": "number", "buckets": 4, **ITEM},
    "tags": {"kind": "list", "separator": ";", "longest": 3, **ITEM},
    "look": {"kind": "vector", "dimensions": 6, "parts": 3, "buckets": 5, **ITEM},
}
OWN, COLUMNS = 7, 1 + 3 + 1 + 3
"""Token features of every model, and those of these declarations: look, maker, price, tags by name."""


def with_columns(sample: SampleLog, bad: dict[int, dict[str, Any]] | None = None) -> SampleLog:
    """The sample's catalogue with tags and a vector of each item, other values for some rows."""
    items, rng = pq.read_table(sample.catalogue), np.random.default_rng(0)
    rows = items.num_rows
    tags: list[Any] = [[None, "red", "red;warm", "warm;blue;red;rare", ""][row % 5] for row in range(rows)]
    looks: list[Any] = [None if row % 7 == 3 else rng.normal(size=6).tolist() for row in range(rows)]
    for row, values in (bad or {}).items():
        tags[row], looks[row] = values.get("tags", tags[row]), values.get("look", looks[row])
    items = items.append_column("tags", pa.array(tags, pa.string())).append_column("look", pa.array(looks))
    pq.write_table(items, sample.catalogue)
    return sample


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Bundle]:
    folder = tmp_path_factory.mktemp("items")
    config = told_config(folder, with_columns(write_told_log(folder / "log", {}, **SMALL)), FEATURES)
    prepare_told(config)
    train(config)
    return config, load_bundle(export(config))


def requests_of(config: Config, *splits: str) -> list[Request]:
    prepared = PreparedLog.open(Path(config.work_dir) / "prepared", verify=False)
    sequences = [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]
    return [request for split in splits for sequence in sequences for request in requests_in(sequence, split)]


def test_offline_and_serving_read_the_same_codes_of_items(told: tuple[Config, Bundle]) -> None:
    config, bundle = told
    requests = requests_of(config, "train", "validation", "test")
    recommender = Recommender.of(bundle, include_paused=True)
    offline = recommender.contexts(requests)
    served = ContextBuilder(recommender.catalogue, recommender.spec, told=bundle.told)
    queries = [Query(one.sequence.user_id, None, one.scene, 5, one.now_ms, Blocked()) for one in requests]
    pasts = [one.sequence.before(one.now_ms) for one in requests]
    columns = ("item_H", "timestamp_H", "action_H", "kind_H", "value_H")
    stored = [user_history(zip(*(getattr(past, name).tolist() for name in columns), strict=True)) for past in pasts]
    online = served.build(queries, stored, served.told(queries))
    assert offline.feature_BSC.shape[-1] == OWN + COLUMNS
    for name in ("static_BF", "code_BST", "feature_BSC", "mask_BS"):
        np.testing.assert_array_equal(getattr(offline, name).numpy(), getattr(online, name).numpy(), err_msg=name)


def test_tokens_hold_what_the_catalogue_says_of_their_items(told: tuple[Config, Bundle]) -> None:
    config, bundle = told
    assert bundle.told is not None and not bundle.told.features
    prepared = PreparedLog.open(Path(config.work_dir) / "prepared")
    items = prepared.catalogue()
    code_NK = item_codes(items, bundle.told)
    row_of = {item: row for row, item in enumerate(items["item_id"].to_pylist())}
    request = requests_of(config, "test")[0]
    features = Recommender.of(bundle, include_paused=True).contexts([request]).feature_BSC[0].numpy()
    seen = request.sequence.before(request.now_ms)
    seen_items = [item for item, action in zip(seen.item_H, seen.action_H, strict=True) if action > 0]
    short = min(len(seen_items), config.model.short_length)
    newest = [code_NK[row_of[item]].tolist() for item in seen_items[-short:]]
    assert features[1 : 1 + short, OWN:].tolist() == newest
    words = {one.name: one.words for one in bundle.told.items}
    assert words["tags"] == ("red", "warm", "blue", "rare")
    tags = items["tags"].to_pylist()
    assert next(code_NK[row, 5:].tolist() for row in range(len(tags)) if tags[row] == "red;warm") == [2, 3, 0]
    assert all((code_NK[row, :3] == 0).all() == (look is None) for row, look in enumerate(items["look"].to_pylist()))


def test_rows_of_training_are_wide_where_codes_are(told: tuple[Config, Bundle]) -> None:
    config, bundle = told
    store = build_rows(config, use_ray=False)
    assert store.format.wide_token and store.format.dtype["feature_SC"].base == np.int32
    row_N = store.format.from_table(store.files.take(np.arange(store.files.rows)))
    expected = Recommender.of(bundle, include_paused=True).contexts(requests_of(config, "train"))
    assert row_N["target_MT"].shape[-1] == config.model.levels
    ours, theirs = row_N["feature_SC"].reshape(store.files.rows, -1), expected.feature_BSC.flatten(1)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))


def test_the_model_learns_from_them_and_the_decoder_reads_them(told: tuple[Config, Bundle]) -> None:
    config, bundle = told
    recommender = Recommender.of(bundle, include_paused=True)
    model = recommender.model
    assert isinstance(model, LazyAR) and bundle.model_config.told_items["tags"] == (6, 3)
    with torch.no_grad():
        context = recommender.contexts(requests_of(config, "train")[:40])
        trained, served = model.encode(context), reader_of(model)(context, True)
        torch.testing.assert_close(served.key_BLGSd, trained.key_BLGSd, atol=1e-5, rtol=1e-4)
        other = context.feature_BSC.clone()
        other[..., OWN] = 0
        changed = model.encode(type(context)(context.static_BF, context.code_BST, other, context.mask_BS))
        assert not torch.equal(changed.key_BLGSd, trained.key_BLGSd)


def test_an_ad_that_comes_while_a_model_is_served_is_told_too(told: tuple[Config, Bundle]) -> None:
    _, bundle = told
    catalogue = AdCatalogue(bundle.catalogue, bundle.model_config.levels, told=bundle.told)
    like = bundle.catalogue.slice(5, 1).to_pylist()[0]
    features = {"tags": "warm;red", "look": like["look"]}
    given = {"advertiser": like["advertiser"], "price": like["price"], "features": features}
    item = CatalogueItem(item_id="new", title="n", **given)
    row = catalogue.insert(item, tuple(like["sid"]))
    sid = len(like["sid"])
    new, old = catalogue.codes(np.array([row, 5]))
    assert new[:sid].tolist() == like["sid"] == catalogue.sid_of(row)
    assert new[sid : sid + 5].tolist() == old[sid : sid + 5].tolist() and new[sid + 5 :].tolist() == [2, 3, 0]
    again = catalogue.given_to(row, "someone", None)
    assert catalogue.codes(np.array([again]))[0].tolist() == new.tolist()
    assert catalogue.sids.describe(["new"])[0][0].tolist() == new.tolist()
    bare = catalogue.insert(CatalogueItem(item_id="bare", title="n"), tuple(like["sid"]))
    assert catalogue.codes(np.array([bare]))[0][sid:].tolist() == [0] * COLUMNS


def test_the_reward_model_hears_of_the_items(told: tuple[Config, Bundle]) -> None:
    config, bundle = told
    rewards = RewardConfig(workers=0, epochs=1, embedding_width=4, hidden=(8,), batch_exposures=64)
    folder = reward(SimpleNamespace(work_dir=config.work_dir, seed=0, rewards=rewards))
    model = RewardModel.open(folder, bundle.catalogue)
    assert model.told == () and model.items.told_NF.shape[1] == COLUMNS
    categories = len(CATEGORICAL)
    assert len(model.net.start_C) == categories + COLUMNS
    none = np.zeros(0, np.int64)
    ads = np.flatnonzero(model.items.price_N > 0)[:10]
    question = Question(Past(none, none, none), 1_600_000_000_000, "display", None, ads)
    before = model.judge([question])[0]
    model.items.told_NF[:] = 0
    assert np.isfinite(before).all() and not np.array_equal(before, model.judge([question])[0])


def test_values_that_are_none_go_to_quarantine_with_their_reasons(tmp_path: Path) -> None:
    bad: dict[int, dict[str, Any]] = {0: {"look": [1.0, 2.0]}, 1: {"tags": ";".join("x" * 101)}, 2: {"tags": "y" * 257}}
    sample = with_columns(write_told_log(tmp_path / "log", {}, **SMALL), bad)
    prepared = run(told_config(tmp_path, sample, FEATURES, max_quarantined=0.9), in_process=True)
    reasons = artifacts_reasons(prepared)
    assert reasons == {"look is not a vector of 6 numbers", "tags has more than 100 values",
                       "tags has a value longer than 256 bytes"}  # fmt: skip
    counts = prepared.account["catalogue"]
    assert counts["kept"] + counts["quarantined"] + counts["duplicates"] == counts["rows_in"]


def artifacts_reasons(prepared: PreparedLog) -> set[str]:
    return set(pq.read_table(prepared.folder / "quarantine" / "catalogue.parquet")["reason"].to_pylist())


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ({"kind": "category", "column": "colour", **ITEM}, r"has no column .colour."),
        ({"kind": "number", "column": "category", **ITEM}, r"features\.x\.kind: .*holds string, which is no number"),
    ],
)
def test_a_column_that_is_not_there_or_of_another_kind_is_refused(
    tmp_path: Path, feature: dict[str, Any], said: str
) -> None:
    sample = write_told_log(tmp_path / "log", {}, **SMALL)
    with pytest.raises(UserError, match=said):
        run(told_config(tmp_path, sample, {"x": feature}), in_process=True)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "category", "source": "item"}, "set model: true"),
        ({"kind": "vector", "model": True, "dimensions": 4}, "set source: item"),
        ({"kind": "vector", **ITEM}, "needs dimensions"),
        ({"kind": "vector", "dimensions": 6, "parts": 4, **ITEM}, "parts divide evenly"),
        ({"kind": "number", "dimensions": 4, **ITEM}, "are for vectors"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        FeatureConfig.parse(values, "features.x")


def test_rules_and_requests_know_nothing_of_features_of_items() -> None:
    features = {"maker": FeatureConfig(kind="category", source="item", model=True)}
    with pytest.raises(UserError, match="is a feature of items"):
        read_rules({"maker": {"in": ["a"]}}, features)
    served = ServingConfig.resolve({"bundle": "x", "features": {**FEATURES, "os": {"kind": "category"}}})
    assert set(served.features) == {"os"}


def test_a_model_that_is_told_of_items_needs_the_section_it_was_prepared_with(told: tuple[Config, Bundle]) -> None:
    config = told[0].model_copy(update={"features": {}})
    with pytest.raises(UserError, match="was prepared for a model that is told look, maker, price, tags"):
        build_rows(config, use_ray=False)
