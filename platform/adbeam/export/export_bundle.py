"""Export: trained weights, catalogue with SIDs, measured ladder and settings as one bundle for serving."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file

from adbeam import artifacts
from adbeam.bundle import catalogue_with_sids, resolve, write_bundle
from adbeam.bundle_settings import BundleSettings
from adbeam.catalogue.config import UpdatesConfig
from adbeam.catalogue.fold_updates import fold_updates
from adbeam.catalogue.open_updates import open_log
from adbeam.decoding.config import DecodingConfig
from adbeam.errors import UserError
from adbeam.evaluation.config import EvaluationConfig
from adbeam.evaluation.evaluate import judged_requests, popularity_before
from adbeam.export.config import ExportConfig
from adbeam.export.ladder_quality import measure_ladder
from adbeam.export.money_share import check_money
from adbeam.export.precision_quality import measure_precisions
from adbeam.export.prices.from_log import money_of, told
from adbeam.features.spec import FeatureSpec
from adbeam.inference.recommender import Recommender
from adbeam.logs.config import LogsConfig
from adbeam.logs.prepared import PreparedLog, resolve_target
from adbeam.logs.requests import Request
from adbeam.model import build_model
from adbeam.model.config import ModelConfig
from adbeam.model.heads import SidDecoder
from adbeam.tokens.config import TokensConfig
from adbeam.tokens.embedders.language import model_files
from adbeam.tokens.encoder import LazyTokenizer
from adbeam.training.data.build_rows import RowStore
from adbeam.training.state.checkpoint import WEIGHTS
from adbeam.training.tracking.run_record import commit
from adbeam.training.trainer import ECPM, MODEL, FitSettings
from adbeam.workdir import WorkDir


class ExportSettings(FitSettings, Protocol):
    """What `export` reads of the root configuration."""

    @property
    def logs(self) -> LogsConfig: ...
    @property
    def decoding(self) -> DecodingConfig: ...
    @property
    def evaluation(self) -> EvaluationConfig: ...
    @property
    def export(self) -> ExportConfig: ...
    @property
    def tokens(self) -> TokensConfig: ...
    @property
    def updates(self) -> UpdatesConfig: ...


def export(config: ExportSettings) -> Path:
    """Write a bundle from `work_dir/training` and point CURRENT at it; returns its folder.

    A bundle already made of the same weights, catalogue and widths is returned as it is. Raises UserError when a step
    before this one has not run, or the dearest rows hold more of the money than `export.max_dearest_share`.
    """
    work_dir = WorkDir.of(config.work_dir)
    trained = artifacts.read_manifest(work_dir.training)
    prepared, tokens = PreparedLog.open(work_dir.prepared), work_dir.tokens
    updates = open_log(config.updates)
    watermark = updates.last() if updates is not None else 0
    currency, nobody = _declared_currency(config.logs), _declared_nobody(config.logs)
    details = {
        "fingerprint": artifacts.fingerprint(
            trained["files"],
            prepared.manifest["files"],
            artifacts.read_manifest(tokens)["files"],
            config.decoding.widths,
            config.training.ladder_requests,
            config.export.priced_requests,
            watermark,
            *currency.values(),
            *([nobody] if nobody else []),
            *([["precision_requests", config.export.precision_requests]] if config.export.precision_requests else []),
        )
    }
    bundles = work_dir.bundles
    if bundles.is_dir() and artifacts.is_current(resolve(bundles), details):
        return resolve(bundles)
    target_action = resolve_target(config.training.target_action, work_dir.prepared)
    print(check_money(prepared, target_action, config.export.max_dearest_share))
    print(f"values in learning: {prepared.value} (logs.value)")
    model, means = trained_model(work_dir.training)
    popularity = dict(popularity_before(prepared, "validation").counts)
    catalogue = catalogue_with_sids(prepared.catalogue(), pq.read_table(work_dir.sids))
    catalogue = _with_popularity(catalogue, popularity)
    token_settings, codebooks = _settings_of(tokens), load_file(tokens / "codebooks.safetensors")
    encoder = LazyTokenizer(token_settings, codebooks)
    if updates is not None:
        catalogue, watermark = fold_updates(catalogue, updates, encoder)
    recommender = Recommender(
        model, catalogue, means, include_paused=True, trends=prepared.trends(), ecpm=True, told=prepared.told()
    )
    quality = _ladder_quality(config, prepared, recommender)
    precisions = _precision_quality(config, prepared, recommender)
    money = None
    if priced := any(means):
        money = money_of(prepared, recommender, target_action, popularity, config.export.priced_requests)
    print(told(money, priced))
    full = next((entry for entry in quality["schedules"] if tuple(entry["widths"]) == config.decoding.widths), None)
    return write_bundle(
        bundles,
        model_config=model.config,
        settings=BundleSettings(
            feature_spec=FeatureSpec.of(model.config).as_dict(),
            ecpm_means=means,
            tokens={**token_settings, "version": encoder.version},
            updates_watermark=watermark,
            scenes=list(RowStore.open(work_dir.training_rows).scenes),
            **currency,
            **nobody,
            **_value_of(prepared),
        ),
        weights=model.state_dict(),
        codebooks=codebooks,
        ladder_quality=quality,
        catalogue=catalogue,
        embedder_files=_embedder_files(config.tokens),
        money=money,
        told=prepared.told(),
        details={
            **details,
            **precisions,
            "adbeam": version("adbeam"),
            "commit": commit(),
            "seed": trained["seed"],
            "steps": trained["steps"],
            "metrics": {**trained["metrics"], **({f"validation_{quality['metric']}": full["quality"]} if full else {})},
        },
    )


def trained_model(folder: Path) -> tuple[SidDecoder, list[float]]:
    """(the model with its weights, mean value of each eCPM bucket)."""
    shape = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    model = build_model(ModelConfig.parse(shape, source=str(folder / MODEL)))
    model.load_state_dict(load_file(folder / WEIGHTS))
    means = json.loads((folder / ECPM).read_text(encoding="utf-8"))["means"]
    return model.eval(), means


def _with_popularity(catalogue: pa.Table, popularity: dict[str, int]) -> pa.Table:
    """The catalogue with a column `popularity`, training conversions (or clicks, where those are the log's
    targets): it orders the answers for late requests."""
    counts = [popularity.get(item, 0) for item in catalogue.column("item_id").to_pylist()]
    return catalogue.append_column("popularity", pa.array(counts, pa.int64()))


def _ladder_quality(config: ExportSettings, prepared: PreparedLog, recommender: Recommender) -> dict[str, Any]:
    """Measured on validation requests; unmeasured where the log has none."""
    requests = _spread_requests(prepared, config.training.ladder_requests)
    if not requests:
        return {"metric": "none", "full_widths": list(config.decoding.widths), "schedules": []}
    return measure_ladder(recommender, requests, config.decoding.widths)


def _precision_quality(config: ExportSettings, prepared: PreparedLog, recommender: Recommender) -> dict[str, Any]:
    """What the manifest says of low precision; nothing where nobody asked, or the log has no validation requests."""
    requests = _spread_requests(prepared, config.export.precision_requests)
    if not requests:
        return {}
    return {"precision_quality": measure_precisions(recommender, requests, config.decoding.widths)}


def _spread_requests(prepared: PreparedLog, wanted: int) -> list[Request]:
    """So many validation requests, spread over the users; fewer where the log has no more."""
    try:
        requests = judged_requests(prepared, "validation", None) if wanted else []
    except UserError:
        return []
    chosen = np.linspace(0, len(requests) - 1, min(wanted, len(requests))).round().astype(int)
    return [requests[place] for place in np.unique(chosen)]


def _declared_currency(logs: LogsConfig) -> dict[str, str]:
    """What a bundle says of its money: nothing where the log declares no currency."""
    return {} if logs.currency is None else {"currency": logs.currency}


def _declared_nobody(logs: LogsConfig) -> dict[str, list[str]]:
    """What a bundle says of ids that mean nobody: nothing where the log declares no words of its own."""
    words = logs.files.nobody_words if logs.source == "files" and logs.files else None
    return {} if words is None else {"nobody_words": list(words)}


def _value_of(prepared: PreparedLog) -> dict[str, str]:
    """What a bundle says of its targets' values: nothing where they are what they always were."""
    return {} if prepared.value == "price_or_bid" else {"value": prepared.value}


def _embedder_files(config: TokensConfig) -> list[Path]:
    """What a replica needs of the embedder's model to encode a new ad; nothing where the embedder has no model."""
    folder = config.embedder.model_dir
    return model_files(folder) if config.embedder.kind in ("language", "multimodal") and folder is not None else []


def _settings_of(tokens: Path) -> dict[str, Any]:
    path = tokens / "tokens.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
