"""`tokenize`: the step that turns work_dir/prepared into work_dir/tokens.

Written there, whole or not at all: `sids.parquet` (item_id, sid, kind), `codebooks.safetensors`, `tokens.json`
(settings of embedder and quantizer), `report.json`, `items_per_sid.png`, `quarantine.parquet` (item_id, reason).
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.ray_data.progress import lasting, told
from adbeam.tokens import gates
from adbeam.tokens.chart import draw_items_per_sid
from adbeam.tokens.config import TokensConfig
from adbeam.tokens.embedders.behaviour import Interactions, read_interactions
from adbeam.tokens.metrics import items_per_sid, path_similarity, sid_quality
from adbeam.tokens.report import print_summary
from adbeam.tokens.streaming import encoded_batches, item_batches, item_count, sid_matrix
from adbeam.tokens.tokenizer import Tokenizer
from adbeam.workdir import SEQUENCES, SIDS, WorkDir

log = logging.getLogger(__name__)

FORMAT = 1
SID_SCHEMA = pa.schema([("item_id", pa.string()), ("sid", pa.list_(pa.int32())), ("kind", pa.string())])
QUARANTINE_SCHEMA = pa.schema([("item_id", pa.string()), ("reason", pa.string())])


class CodebookSettings(Protocol):
    """The part of the model's settings that its tokens must agree with."""

    @property
    def codebooks(self) -> tuple[int, ...]: ...


class TokenizeSettings(Protocol):
    """What `tokenize` reads of the root configuration."""

    @property
    def work_dir(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def tokens(self) -> TokensConfig: ...
    @property
    def model(self) -> CodebookSettings: ...


@dataclass(frozen=True)
class Tokens:
    """What tokenization published: `table` has item_id, sid, kind; `settings` and `tensors` restore the Tokenizer."""

    folder: Path
    table: pa.Table
    settings: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    report: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a published folder; raises UserError when it is missing or differs from its manifest."""
        folder = Path(folder)
        artifacts.read_manifest(folder)
        return cls(
            folder=folder,
            table=pq.read_table(folder / SIDS),
            settings=json.loads((folder / "tokens.json").read_text(encoding="utf-8")),
            tensors=load_file(folder / "codebooks.safetensors"),
            report=json.loads((folder / "report.json").read_text(encoding="utf-8")),
        )

    @property
    def codebooks(self) -> tuple[int, ...]:
        """V_t of each SID level."""
        return tuple(self.settings["quantizer"]["codebooks"])

    def tokenizer(self) -> Tokenizer:
        """The fitted tokenizer, to encode a new ad."""
        return Tokenizer.from_state(self.settings, self.tensors)


def tokenize(config: TokenizeSettings) -> Tokens:
    """Fit, encode, check and publish the catalogue's SIDs; returns at once when nothing has changed since the last run.

    Raises UserError when the catalogue is missing or lacks a configured column, or when a quality gate fails.
    """
    work_dir = WorkDir.of(config.work_dir)
    prepared, target = work_dir.prepared, work_dir.tokens
    details = {"format": FORMAT, "fingerprint": _fingerprint(config, prepared)}
    if artifacts.is_current(target, details):
        log.info("%s is up to date", target)
        return Tokens.load(target)
    with lasting("fitting the tokenizer"):
        tokenizer, similarity, seconds = _fit(config, prepared)
    manifest: dict[str, Any] = dict(details)
    with artifacts.publish(target, manifest) as staging:
        started = time.perf_counter()
        catalogue, sids_NT = _encode(tokenizer, prepared / "catalogue.parquet", staging, config.tokens.workers)
        seconds["encode"] = round(time.perf_counter() - started, 2)
        report = _report(config, tokenizer, catalogue, sids_NT)
        report |= {"pas": similarity, "seconds": seconds}
        print_summary(report)
        gates.check(report, config.tokens.gates)
        settings, tensors = tokenizer.state()
        settings["version"] = tokenizer.version
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, staging / "codebooks.safetensors")
        artifacts.write_json(staging / "tokens.json", settings)
        artifacts.write_json(staging / "report.json", report)
        draw_items_per_sid(items_per_sid(sids_NT), staging / "items_per_sid.png")
        manifest["metrics"] = {key: report["quality"][key] for key in ("cpr", "col", "util")}
    return Tokens.load(target)


def _fingerprint(config: TokenizeSettings, prepared: Path) -> str:
    files = artifacts.read_manifest(prepared, verify=False)["files"]
    relevant = {name: entry for name, entry in files.items() if name.startswith(("catalogue", SEQUENCES))}
    return artifacts.fingerprint(
        FORMAT, config.tokens.model_dump(mode="json"), config.model.codebooks, config.seed, relevant
    )


def _fit(config: TokenizeSettings, prepared: Path) -> tuple[Tokenizer, float | None, dict[str, float]]:
    """(fitted tokenizer, PAS on the sample it was fitted on, seconds taken)."""
    started = time.perf_counter()
    tokenizer = Tokenizer.build(config.tokens, config.model.codebooks, seed=config.seed)
    sample = _sample(prepared / "catalogue.parquet", config.tokens.embedder.sample_items, config.seed)
    x_NE = tokenizer.fit(sample, _interactions(config, prepared), seed=config.seed)
    encoded = tokenizer.encode_vectors(sample, x_NE)
    similarity = path_similarity(x_NE[encoded.usable_N], encoded.sids_NT[encoded.usable_N])
    return tokenizer, similarity, {"fit": round(time.perf_counter() - started, 2)}


def _interactions(config: TokenizeSettings, prepared: Path) -> Interactions | None:
    if not config.tokens.embedder.behaviour_dimensions and not config.tokens.cooccurrence.enabled:
        return None
    if not (prepared / SEQUENCES).is_dir():
        log.warning("%s holds no sequences: tokens without the behaviour part", prepared)
        return None
    interactions = read_interactions(prepared / SEQUENCES)
    return interactions if interactions.item_ids else None


def _sample(path: Path, size: int, seed: int) -> pa.Table:
    """`size` rows of the catalogue, drawn evenly; holds no more than the sample and one batch."""
    rows = item_count(path)
    if not rows:
        raise UserError(f"{path} holds no item", remedy="prepare a catalogue with at least one row")
    wanted = np.arange(rows) if rows <= size else np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
    parts, start = [], 0
    for batch in item_batches(path):
        here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)] - start
        parts.append(batch.take(pa.array(here)))
        start += batch.num_rows
    return pa.concat_tables(parts)


def _encode(tokenizer: Tokenizer, path: Path, staging: Path, workers: int) -> tuple[dict[str, Any], np.ndarray]:
    """Write sids.parquet and quarantine.parquet batch by batch; returns the account of the rows and sids_NT."""
    reasons: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    seen: set[str] = set()
    sids = []
    with (
        pq.ParquetWriter(staging / SIDS, SID_SCHEMA) as kept_file,
        pq.ParquetWriter(staging / "quarantine.parquet", QUARANTINE_SCHEMA) as quarantine_file,
    ):
        for batch in _shown(encoded_batches(path, tokenizer, workers=workers), item_count(path)):
            ids, usable = batch["item_id"].to_pylist(), batch["usable"].to_pylist()
            reason_N = [_reason(item_id, fine, seen) for item_id, fine in zip(ids, usable, strict=True)]
            reasons.update(reason for reason in reason_N if reason)
            kept = batch.filter(pa.array([reason is None for reason in reason_N], pa.bool_()))
            kinds.update(kept["kind"].to_pylist())
            sids.append(sid_matrix(kept["sid"]))
            kept_file.write_table(kept.select(SID_SCHEMA.names))
            quarantine_file.write_table(_quarantine_table(ids, reason_N))
    kept_rows, quarantined = sum(map(len, sids)), sum(reasons.values())
    if not kept_rows:
        raise UserError(f"no item of {path} can be used: {dict(reasons)}", remedy="give the items ids and text")
    account: dict[str, Any] = {"rows": kept_rows + quarantined, "kept": kept_rows, "quarantined": quarantined}
    account |= {"reasons": dict(reasons), "kinds": dict(kinds)}
    return account, np.concatenate([part for part in sids if len(part)])


def _shown(batches: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same batches, with a bar of how many of the `rows` are done."""
    with Progress() as progress:
        bar = progress.add_task("encoding", total=rows)
        for batch in told(batches, rows, "encoding items", size=lambda batch: batch.num_rows):
            progress.advance(bar, batch.num_rows)
            yield batch


def _reason(item_id: str | None, fine: bool, seen: set[str]) -> str | None:
    """Why a row is set aside; None when it is kept."""
    if not item_id:
        return "item_id missing"
    if item_id in seen:
        return "item_id twice"
    if not fine:
        return "embedding zero or not finite"
    seen.add(item_id)
    return None


def _quarantine_table(ids: list[str | None], reason_N: list[str | None]) -> pa.Table:
    rows = [(item_id, reason) for item_id, reason in zip(ids, reason_N, strict=True) if reason]
    return pa.Table.from_arrays(
        [pa.array([row[0] for row in rows], pa.string()), pa.array([row[1] for row in rows], pa.string())],
        schema=QUARANTINE_SCHEMA,
    )


def _report(
    config: TokenizeSettings, tokenizer: Tokenizer, catalogue: dict[str, Any], sids_NT: np.ndarray
) -> dict[str, Any]:
    codebooks = config.model.codebooks
    settings, _ = tokenizer.quantizer.state()
    return {
        "catalogue": catalogue,
        "quality": sid_quality(sids_NT, codebooks),
        "fitted_sizes": settings["fitted_sizes"],
        "codebooks": list(codebooks),
        "items_per_sid": items_per_sid(sids_NT),
    }
