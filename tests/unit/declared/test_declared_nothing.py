"""Features that no model is told leave everything as it was: prepared log, rows, weights and bundle, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from tests.support.declared.told_log import by_request, events_of, prepare_told, told_config, write_told_log

from adbeam import artifacts
from adbeam.export.export_bundle import export
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import describe
from adbeam.model.config import ModelConfig
from adbeam.targeting.features import FeatureConfig
from adbeam.training.data.build_rows import build_rows
from adbeam.training.trainer import train

SMALL = {"users": 8, "items": 24, "visits": 8}
FOR_RULES = {"os": {"kind": "category"}, "age": {"kind": "number"}, "interests": {"kind": "list"}}


def hashes(folder: Path, features: dict[str, Any]) -> dict[str, dict[str, str]]:
    """{folder of the work_dir: {file: sha256}} of all steps up to the bundle."""
    events = events_of(folder / "log", **SMALL)
    systems = pa.array(by_request(events, ["ios", None]), pa.string())
    config = told_config(folder, write_told_log(folder / "log", {"os": systems}, **SMALL), features)
    prepare_told(config)
    build_rows(config, use_ray=False)
    train(config)
    made = {"bundle": export(config)} | {name: folder / name for name in ("prepared", "tokens", "training_rows")}
    files = {name: artifacts.read_manifest(path)["files"] for name, path in made.items()}
    return files | {"weights": {"model": artifacts.read_manifest(folder / "training")["files"]["model.safetensors"]}}


def test_features_of_rules_alone_change_no_byte(tmp_path: Path) -> None:
    without, with_rules = hashes(tmp_path / "without", {}), hashes(tmp_path / "with", FOR_RULES)
    assert without == with_rules
    assert "features.json" not in without["bundle"] | without["prepared"]


def test_a_feature_of_rules_is_described_as_before() -> None:
    feature = FeatureConfig(kind="category")
    assert feature.model_dump() == {"kind": "category", "source": "request"}
    assert "told" not in ModelConfig().model_dump()
    logs = LogsConfig()
    assert describe(logs, [], {"os": feature}) == describe(
        logs, [], {"os": FeatureConfig(kind="category", model=False)}
    )
    assert describe(logs, [], {"os": feature}) != describe(logs, [], {"os": FeatureConfig(kind="category", model=True)})
    assert json.dumps(feature.model_dump(mode="json")) == '{"kind": "category", "source": "request"}'
