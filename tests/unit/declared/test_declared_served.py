"""A replica's model is told what requests tell; settings that mean other features are refused before traffic."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.bundles import FULL_WIDTHS, write_random_bundle

from adbeam import artifacts
from adbeam.beams.cost import BatchCost
from adbeam.bundle import load_bundle, write_again
from adbeam.catalogue.blocked import Blocked
from adbeam.declared.agreement import OtherFeatures
from adbeam.declared.encoder import FILE, FeatureEncoder, FittedFeature
from adbeam.errors import UserError
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.bundle_follower import first_model
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Answer, Query
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.targeting.told import Context

TOLD = FeatureEncoder(
    (
        FittedFeature("age", "number", "request", edges=(30.0, 50.0)),
        FittedFeature("interests", "list", "request", words=("tea", "wine"), columns=2),
        FittedFeature("os", "category", "request", words=("ios", "android")),
    )
)
FEATURES: dict[str, Any] = {one.name: {"kind": one.kind, "model": True} for one in TOLD.features}


def served(folder: Path, features: dict[str, Any]) -> LoadedModel:
    config = ServingConfig.resolve({"bundle": str(folder), "features": features})
    loader = partial(load_model, cost=BatchCost(1.0, 0.5, 0.01))
    return first_model(loader, config, read_policy("static"), SqliteStore(folder / "h.sqlite"), Metrics())


def asked(model: LoadedModel, *contexts: Context | None) -> list[Answer]:
    queries = [Query(None, (), "display", 4, 1_600_000_000_000, Blocked(), context=told) for told in contexts]
    return model.engine.answer(queries, [FULL_WIDTHS] * len(queries))


def probabilities(answer: Answer) -> list[float]:
    return [ad["probability"] for ad in answer.ads]


def test_what_a_request_tells_changes_its_answer(tmp_path: Path) -> None:
    write_random_bundle(tmp_path, 80, told=TOLD)
    model = served(tmp_path, FEATURES)
    ios: Context = (("age", 31.0), ("interests", ("tea", "wine")), ("os", "ios"))
    android: Context = (("age", 31.0), ("interests", ("tea", "wine")), ("os", "android"))
    as_old: Context = (("age", 49.9), ("interests", ("wine", "tea")), ("os", "ios"))
    first, other, same, nothing, probe = (probabilities(a) for a in asked(model, ios, android, as_old, (), None))
    assert first == pytest.approx(same, rel=1e-5) and nothing == pytest.approx(probe, rel=1e-5)
    assert len({round(part[0], 9) for part in (first, other, nothing)}) == 3


def test_settings_that_mean_other_features_are_refused_whatever_was_served_before(tmp_path: Path) -> None:
    write_random_bundle(tmp_path, 40)  # an earlier bundle that is told nothing does not stand in
    write_random_bundle(tmp_path, 40, told=TOLD)
    with pytest.raises(OtherFeatures, match=r"features\.age: .*is told it \(kind: number, source: request\)"):
        served(tmp_path, {})
    with pytest.raises(OtherFeatures, match=r"features\.os: .*told it as kind: category.*got 'kind: list"):
        served(tmp_path, {**FEATURES, "os": {"kind": "list", "model": True}})
    assert served(tmp_path, {**FEATURES, "country": {"kind": "category"}}).version


def test_a_bundle_that_is_written_again_keeps_what_it_is_told(tmp_path: Path) -> None:
    write_random_bundle(tmp_path, 40, told=TOLD)
    before = load_bundle(tmp_path)
    after = load_bundle(write_again(tmp_path, before, {}))
    assert after.told == before.told == TOLD and after.version != before.version


@pytest.mark.parametrize("change", ["words", "gone"])
def test_a_bundle_with_the_features_of_another_model_is_refused(tmp_path: Path, change: str) -> None:
    folder = write_random_bundle(tmp_path, 40, told=TOLD)
    stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
    stored["features"][2]["words"].append("windows")
    (folder / FILE).write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(UserError, match=FILE):  # its hash says so
        load_bundle(tmp_path)
    if change == "gone":
        (folder / FILE).unlink()
    manifest = json.loads((folder / artifacts.MANIFEST).read_text(encoding="utf-8"))
    del manifest["files"][FILE]
    (folder / artifacts.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match=r"features\.json is not of this model"):
        load_bundle(tmp_path)
