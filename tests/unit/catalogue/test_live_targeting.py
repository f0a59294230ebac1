"""Targeting of a served model: what the bundle says, what changes live, and the same rules in every kind of answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.support.replicas import write_tokenized_bundle
from tests.support.serving.following_model import following_config, following_model, live_ads
from tests.support.targeting.random_rules import FEATURES, random_text, random_told
from typer.testing import CliRunner

from adbeam.bundle import load_bundle, write_again
from adbeam.catalogue.blocked import Blocked
from adbeam.catalogue.fold_updates import fold_updates
from adbeam.catalogue.live import ChangeRefused
from adbeam.catalogue.updates import AdChange
from adbeam.cli.root import app
from adbeam.records import CatalogueItem
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.bundle_follower import first_model
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.targeting.compiled.reading import UndeclaredFeatures
from adbeam.targeting.rules import stored_rules
from adbeam.targeting.told import Context, Told

WIDE, NOW_MS, ADS = (8, 32, 512), 1_777_000_000_000, 40
DE: Context = (("country", "de"),)
FR: Context = (("country", "fr"),)
ONLY_DE = {"country": {"in": ["de"]}}


def _with_rules(root: Path, texts: list[str | None]) -> Path:
    """A bundle of ADS ads, the first of which have these rules, in force under `root`; and the one before it."""
    bundle = load_bundle(write_tokenized_bundle(root, ADS))
    rules = pa.array([*texts, *[None] * (ADS - len(texts))], pa.string())
    return write_again(root, bundle, {}, catalogue=bundle.catalogue.append_column("targeting", rules))


def _config(folder: Path, bundles: Path, declared: tuple[str, ...] = tuple(FEATURES)) -> ServingConfig:
    return following_config(bundles, folder, features={name: FEATURES[name].model_dump() for name in declared})


def _loaded(folder: Path, bundles: Path) -> LoadedModel:
    return following_model(_config(folder, bundles), folder)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    _with_rules(root, ['{"country":{"in":["de"]}}', '{"country":{"not_in":["de"]}}', '{"scenes":["elsewhere"]}'])
    return root


@pytest.fixture
def model(bundles: Path, tmp_path: Path) -> Iterator[LoadedModel]:
    model = _loaded(tmp_path, bundles)
    yield model
    live_ads(model).stop()


def _query(context: Context, now_ms: int = NOW_MS, **blocked: Any) -> Query:
    sets: dict[str, Any] = {name: frozenset(values) for name, values in blocked.items()}
    return Query("u1", None, "display", 100, now_ms, Blocked(**sets), context=context)


def _served(model: LoadedModel, context: Context, now_ms: int = NOW_MS, **blocked: Any) -> set[str]:
    answer = model.engine.answer([_query(context, now_ms, **blocked)], [WIDE])[0]
    return {ad["item_id"] for ad in answer.ads}


def _insert(item_id: str, **fields: Any) -> AdChange:
    item = CatalogueItem(item_id=item_id, title="dark tea", advertiser="north", **fields)
    return AdChange(operation="insert", item_id=item_id, item=item)


def _target(item_id: str, rules: dict[str, Any]) -> AdChange:
    return AdChange(operation="update", item_id=item_id, targeting=rules)


def test_the_rules_of_the_bundle_decide_who_finds_an_ad(model: LoadedModel) -> None:
    assert {"ad0", "ad1", "ad2"} & _served(model, DE) == {"ad0"}
    assert {"ad0", "ad1", "ad2"} & _served(model, FR) == {"ad1"}
    assert not {"ad0", "ad1", "ad2"} & _served(model, ())
    assert len(_served(model, ())) == ADS - 3


def test_rules_and_blocks_hold_together(model: LoadedModel) -> None:
    assert "ad0" not in _served(model, DE, advertisers=["north"])
    assert "ad1" in _served(model, FR, advertisers=["north"])
    assert "ad0" not in _served(model, DE, item_ids=["ad0"]) and "ad0" in _served(model, DE, item_ids=["ad3"])


def test_changes_are_in_force_with_the_answer_to_them(model: LoadedModel) -> None:
    live_ads(model).change([_insert("new", targeting=ONLY_DE), _target("ad5", ONLY_DE), _target("ad0", {})])
    assert {"new", "ad5", "ad0"} <= _served(model, DE)
    assert {"new", "ad5", "ad0"} & _served(model, FR) == {"ad0"}
    live_ads(model).change([_target("new", {"country": {"in": ["fr"]}}), _insert("ad5")])
    assert {"new", "ad5"} & _served(model, DE) == {"ad5"} and {"new", "ad5"} <= _served(model, FR)


def test_an_update_of_both_sets_both(model: LoadedModel) -> None:
    live_ads(model).change([AdChange(operation="update", item_id="ad7", ecpm=9.5, targeting=ONLY_DE)])
    assert isinstance(model.engine, ModelEngine) and model.engine.catalogue.index.ecpm("ad7") == 9.5
    assert "ad7" in _served(model, DE) and "ad7" not in _served(model, FR)


def test_fallback_and_earlier_answers_pass_the_rules_of_their_moment(model: LoadedModel) -> None:
    def popular(context: Context) -> set[str]:
        return {ad["item_id"] for ad in model.popular(Blocked(), 100, "display", _query(context).told)}

    assert {"ad0", "ad1"} & popular(DE) == {"ad0"} and {"ad0", "ad1"} & popular(FR) == {"ad1"}
    live_ads(model).change([_target("ad3", {"end": NOW_MS + 1000}), _target("ad4", {})])
    answer = model.engine.answer([_query(DE)], [WIDE])[0]
    assert {"ad0", "ad3", "ad4"} <= {ad["item_id"] for ad in answer.ads}

    def still(now_ms: int) -> set[str]:
        return {ad["item_id"] for ad in model.still_shown(answer, _query(DE, now_ms).told)}

    assert still(NOW_MS) == {ad["item_id"] for ad in answer.ads}
    assert still(NOW_MS + 1000) == still(NOW_MS) - {"ad3"}
    live_ads(model).change([_target("ad4", {"country": {"in": ["fr"]}}), _target("ad0", {"scenes": ["display"]})])
    assert still(NOW_MS) == {ad["item_id"] for ad in answer.ads} - {"ad4"}
    assert "ad4" not in popular(DE) and "ad4" in popular(FR) and "ad0" in popular(FR)


def test_answers_are_kept_by_what_was_told() -> None:
    assert _query(DE).cache_key("v") == _query(DE, NOW_MS + 1).cache_key("v") != _query(FR).cache_key("v")


@pytest.mark.parametrize("seed", [1, 2])
def test_all_answers_are_legal_and_whole_while_ads_change(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = {f"ad{number}": random_text(rng) for number in range(ADS)}
    _with_rules(tmp_path / "b", list(texts.values()))
    model = _loaded(tmp_path, tmp_path / "b")
    for number in range(150):
        item_id, text = f"ad{rng.integers(0, ADS)}", random_text(rng)
        if number % 10 == 0:
            item_id = f"new{number}"
        rules = None if text is None else json.loads(text)
        is_new = item_id not in texts or rng.random() < 0.3
        live_ads(model).change([_insert(item_id, targeting=rules) if is_new else _target(item_id, rules or {})])
        texts[item_id] = text
        if number % 5 == 0:
            told = random_told(rng)
            query = Query(None, None, told.scene, 100, told.now_ms, Blocked(), context=told.context)
            found = {ad["item_id"] for ad in model.engine.answer([query], [WIDE])[0].ads}
            assert found == _legal(texts, told)
            popular = {ad["item_id"] for ad in model.popular(Blocked(), 100, told.scene, told)}
            assert popular <= found
    live_ads(model).stop()


def _legal(texts: dict[str, str | None], told: Told) -> set[str]:
    return {item_id for item_id, text in texts.items() if text is None or stored_rules(text).hold(told)}


def test_wrong_rules_are_refused_by_name(model: LoadedModel) -> None:
    for change, field, said in (
        (_target("ad1", {"nation": {"in": ["de"]}}), "changes.0.targeting.nation", "no declared feature"),
        (_insert("x", targeting={"age": {"in": ["1"]}}), "changes.0.item.targeting.age.in", "of the number age"),
    ):
        with pytest.raises(ChangeRefused) as refused:
            live_ads(model).change([change])
        assert refused.value.field == field and said in refused.value.what
    bad: tuple[dict[str, Any], ...] = (
        {"targeting": {"country": {"in": []}}},
        {"operation": "pause", "targeting": {}},
        {},
    )
    for fields in bad:
        with pytest.raises(ValueError, match=r"is empty|is of an update|needs ecpm, targeting"):
            AdChange.model_validate({"operation": "update", "item_id": "ad1", **fields})


def test_a_bundle_over_undeclared_features_is_refused_whatever_was_before_it(bundles: Path, tmp_path: Path) -> None:
    config, store = _config(tmp_path, bundles, ("age",)), SqliteStore(tmp_path / "h.sqlite")
    with pytest.raises(UndeclaredFeatures, match="'country', which is no declared feature"):
        first_model(load_model, config, read_policy("static"), store, Metrics())


def test_a_new_bundle_holds_the_rules_of_the_log(model: LoadedModel, bundles: Path, tmp_path: Path) -> None:
    changes = [_insert("new", targeting=ONLY_DE), _target("ad5", ONLY_DE), _target("ad0", {}), _insert("ad1")]
    live_ads(model).change(changes)
    for catalogue in (load_bundle(bundles).catalogue, load_bundle(bundles).catalogue.drop_columns("targeting")):
        folded, _ = fold_updates(catalogue, live_ads(model).updates, live_ads(model).encoder)
        texts = dict(zip(folded["item_id"].to_pylist(), folded["targeting"].to_pylist(), strict=True))
        only_de = '{"country":{"in":["de"]}}'
        assert [texts[name] for name in ("new", "ad5", "ad0", "ad1")] == [only_de, only_de, None, None]


def test_the_command_line_takes_rules(model: LoadedModel, bundles: Path, tmp_path: Path) -> None:
    log = ["--log", str(tmp_path / "updates.sqlite")]

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["ads", *words, *log])

    rules = json.dumps(ONLY_DE)
    assert run("add", "cli", "--title", "tea", "--targeting", rules, "--bundle", str(bundles)).exit_code == 0
    assert run("update", "ad5", "ad6", "--targeting", rules).exit_code == 0
    live_ads(model).follower.poll()
    assert {"cli", "ad5", "ad6"} <= _served(model, DE) and not {"cli", "ad5", "ad6"} & _served(model, FR)
    assert run("update", "ad5", "--targeting", "{}").exit_code == 0
    live_ads(model).follower.poll()
    assert "ad5" in _served(model, FR)
    assert "is no JSON" in str(run("update", "ad5", "--targeting", "de").exception)
    assert "say what is new" in str(run("update", "ad5").exception)
