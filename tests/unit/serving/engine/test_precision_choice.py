"""The precision that a replica decodes in: by processor, by what export measured, by what its own answers are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.bundles import FULL_WIDTHS, write_random_bundle

from adbeam.beams.cost import BatchCost
from adbeam.bundle import load_bundle, write_again
from adbeam.decoding.engines.precision import Precision
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine import precision_choice
from adbeam.serving.engine.calibrate import probe_queries
from adbeam.serving.engine.engine import ModelEngine
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.precision_choice import candidate_for, shared, too_dear
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.service import RecommenderService
from adbeam.serving.stores.sqlite import SqliteStore

AMX, VNNI = frozenset({"amx_bf16", "avx512_vnni"}), frozenset({"avx512_vnni"})


def quality(ratio: float = 1.0, lower: float = 1.0) -> dict[str, Any]:
    found = {"value_recall_ratio": ratio, "value_recall_ratio_lower": lower}
    return {"precisions": {"bfloat16": found, "int8": found}}


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    write_random_bundle(tmp_path / "bundles", 300)
    return tmp_path / "bundles"


def say(bundles: Path, found: dict[str, Any]) -> None:
    write_again(bundles, load_bundle(bundles), {"metrics": {}, "precision_quality": found})


def loaded(bundles: Path, **engine: Any) -> tuple[LoadedModel, ServingConfig]:
    config = ServingConfig.parse({"bundle": str(bundles), "engine": {"calibration_seconds": 0.05, **engine}})
    store = SqliteStore(bundles / "h.sqlite")
    return load_model(bundles, config, read_policy("static"), store, Metrics(), BatchCost(1.0, 0.5, 0.01)), config


def served_in(model: LoadedModel) -> Precision:
    assert isinstance(model.engine, ModelEngine)
    precision: Precision = model.engine.recommender.decoder._searches[0].model.precision  # type: ignore[attr-defined]
    return precision


def on(monkeypatch: pytest.MonkeyPatch, flags: frozenset[str], agreement: float = 0.0) -> None:
    monkeypatch.setattr(precision_choice, "processor_flags", lambda: flags)
    monkeypatch.setattr(precision_choice, "LEAST_AGREEMENT", agreement)


def test_processors_have_one_candidate() -> None:
    assert [candidate_for(flags) for flags in (AMX, VNNI, frozenset({"avx_vnni"}), frozenset({"avx2"}))] == [
        "bfloat16", "int8", "int8", None,
    ]  # fmt: skip
    assert not precision_choice.processor_flags() or "fpu" in precision_choice.processor_flags()


def test_money_decides_at_the_mean_and_at_the_lower_bound() -> None:
    assert too_dear(quality(0.995, 0.98), "int8") is None
    assert "99.49% of float32's money" in str(too_dear(quality(0.9949, 0.99), "int8"))
    assert "lower bound 97.90%" in str(too_dear(quality(1.0, 0.979), "bfloat16"))
    silences: tuple[dict[str, Any] | None, ...] = (None, {}, {"precisions": {}})
    for silent in silences:
        assert "export.precision_requests" in str(too_dear(silent, "int8"))


def test_agreement_counts_shared_ads() -> None:
    assert shared([["a", "b"], ["c"]], [["b", "d"], ["c"]]) == pytest.approx(2 / 3)
    assert shared([[]], [[]]) == 1.0


@pytest.mark.parametrize("flags", [AMX, VNNI])
def test_auto_serves_what_it_says(bundles: Path, monkeypatch: pytest.MonkeyPatch, flags: frozenset[str]) -> None:
    on(monkeypatch, flags)
    say(bundles, quality())
    model, _ = loaded(bundles, precision="auto")
    choice = model.facts.precision
    assert choice.asked == "auto" and "times as fast as float32" in choice.reason
    assert choice.chosen in ("float32", candidate_for(flags)) and served_in(model) == choice.chosen


@pytest.mark.parametrize(
    ("flags", "found", "agreement", "reason"),
    [
        (VNNI, None, 0.0, "does not say what int8 costs"),
        (AMX, quality(0.99), 0.0, "bfloat16 finds 99.00%"),
        (frozenset(), quality(), 0.0, "neither AMX nor VNNI"),
        (VNNI, quality(), 1.01, "of float32's first ten ads"),
    ],
)
def test_auto_stays_in_float32_and_answers_as_float32(
    bundles: Path, monkeypatch: pytest.MonkeyPatch, flags: frozenset[str], found: Any, agreement: float, reason: str
) -> None:
    on(monkeypatch, flags, agreement)
    if found is not None:
        say(bundles, found)
    model, _ = loaded(bundles, precision="auto")
    assert model.facts.precision.chosen == served_in(model) == "float32"
    assert reason in model.facts.precision.reason
    plain, _ = loaded(bundles)
    assert isinstance(plain.engine, ModelEngine)
    queries = probe_queries(plain.engine, 4)
    assert model.engine.answer(queries, [FULL_WIDTHS] * 4) == plain.engine.answer(queries, [FULL_WIDTHS] * 4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_declared_precision_is_served_and_told(bundles: Path, precision: Precision) -> None:
    model, config = loaded(bundles, precision=precision)
    assert served_in(model) == precision
    policy, store, metrics = read_policy("static"), SqliteStore(bundles / "h.sqlite"), Metrics()
    told = json.loads(RecommenderService(config, model, policy, store, metrics).status())["precision"]
    assert told == {"asked": precision, "chosen": precision, "reason": "engine.precision says so"}
