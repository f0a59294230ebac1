"""The settings of a bundle: read as they were written, whoever wrote them, and checked against what is built here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.bundles import write_random_bundle

from adbeam import artifacts
from adbeam.bundle import load_bundle
from adbeam.bundle_settings import BundleSettings
from adbeam.errors import UserError
from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig

STORED = {
    "ecpm_means": [0.1, 2.0, 3.5],
    "feature_spec": FeatureSpec.of(ModelConfig()).as_dict(),
    "tokens": {"version": "a1", "quantizer": {"codebooks": [4, 4]}},
    "updates_watermark": 7,
    "scenes": ["display", "mailer"],
    "of_a_later_version": {"kept": True},
}


@pytest.mark.parametrize("names", [list(STORED), ["ecpm_means"], ["ecpm_means", "tokens"]])
def test_what_was_stored_is_stored_again_to_the_byte(tmp_path: Path, names: list[str]) -> None:
    stored = {name: STORED[name] for name in names}
    artifacts.write_json(tmp_path / "before.json", stored)
    artifacts.write_json(tmp_path / "after.json", BundleSettings.parse(stored, "here").as_dict())
    assert (tmp_path / "before.json").read_bytes() == (tmp_path / "after.json").read_bytes()


def test_what_an_earlier_bundle_does_not_tell_has_a_default() -> None:
    earlier: list[dict[str, Any]] = [{}, {"tokens": None, "updates_watermark": None, "scenes": None}, {"scenes": []}]
    for stored in earlier:
        settings = BundleSettings.parse({"ecpm_means": [1.0], **stored}, "here")
        assert settings.tokens == {} and settings.tokens_version == "" and settings.updates_watermark == 0
        assert settings.scene_names == ("default",) and settings.unlike(ModelConfig()) == []


def test_a_currency_is_stored_only_where_it_is_declared() -> None:
    assert "currency" not in BundleSettings(ecpm_means=[1.0]).as_dict()
    assert BundleSettings.parse({"ecpm_means": [1.0]}, "here").currency is None
    stored = BundleSettings(ecpm_means=[1.0], currency="EUR").as_dict()
    assert stored["currency"] == "EUR" and BundleSettings.parse(stored, "here").currency == "EUR"


def test_features_of_another_version_are_named() -> None:
    spec = FeatureSpec.of(ModelConfig()).as_dict()
    for stored, unlike in (
        ({**spec, "levels": 4, "static": {**spec["static"], "hour": 12}}, ["static", "levels"]),
        ({**spec, "weather": {"sun": 2}}, ["weather"]),
        ({name: value for name, value in spec.items() if name not in ("trend", "trending_length")}, []),
    ):
        assert BundleSettings(ecpm_means=[1.0], feature_spec=stored).unlike(ModelConfig()) == unlike


@pytest.mark.parametrize(("stored", "place"), [({}, "settings.ecpm_means"), ({"ecpm_means": ["x"]}, "ecpm_means.0")])
def test_what_is_missing_or_of_another_type_is_named(stored: dict[str, Any], place: str) -> None:
    with pytest.raises(UserError, match=place):
        BundleSettings.parse(stored, "config.json")


def test_a_bundle_whose_model_learned_from_other_features_is_refused(tmp_path: Path) -> None:
    folder = write_random_bundle(tmp_path, 40)
    assert load_bundle(folder).settings.unlike(load_bundle(folder).model_config) == []
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["settings"]["feature_spec"]["token"]["recency"] += 1
    artifacts.write_json(folder / "config.json", config)
    manifest = json.loads((folder / artifacts.MANIFEST).read_text(encoding="utf-8"))
    (folder / artifacts.MANIFEST).unlink()
    artifacts.write_manifest(folder, {name: value for name, value in manifest.items() if name != "files"})
    with pytest.raises(UserError, match=r"other features than this version builds; got 'token'; serve"):
        load_bundle(folder)


def test_what_targets_were_worth_is_stored_only_where_it_is_not_the_old_rule() -> None:
    assert "value" not in BundleSettings(ecpm_means=[1.0]).as_dict()
    assert BundleSettings.parse({"ecpm_means": [1.0]}, "here").value == "price_or_bid"
    stored = BundleSettings(ecpm_means=[1.0], value="ecpm").as_dict()
    assert stored["value"] == "ecpm" and BundleSettings.parse(stored, "here").value == "ecpm"
