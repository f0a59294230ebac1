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
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.tokens import gates
from adbeam.tokens.behaviour import Interactions, read_interactions
from adbeam.tokens.chart import draw_items_per_sid
from adbeam.tokens.metrics import items_per_sid, path_similarity, sid_quality
from adbeam.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from adbeam.config import Config

log = logging.getLogger(__name__)

FORMAT = 1
SID_SCHEMA = pa.schema([("item_id", pa.string()), ("sid", pa.list_(pa.int32())), ("kind", pa.string())])
QUARANTINE_SCHEMA = pa.schema([("item_id", pa.string()), ("reason", pa.string())])
SIMILARITY_SAMPLE = 200_000


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
            table=pq.read_table(folder / "sids.parquet"),
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


def tokenize(config: Config) -> Tokens:
    """Fit, encode, check and publish the catalogue's SIDs; returns at once when nothing has changed since the last run.

    Raises UserError when the catalogue is missing or lacks a configured column, or when a quality gate fails.
    """
    prepared, target = config.work_dir / "prepared", config.work_dir / "tokens"
    details = {"format": FORMAT, "fingerprint": _fingerprint(config, prepared)}
    if artifacts.is_current(target, details):
        log.info("%s is up to date", target)
        return Tokens.load(target)
    tokenizer, seconds = _fit(config, prepared)
    manifest: dict[str, Any] = dict(details)
    with artifacts.publish(target, manifest) as staging:
        started = time.perf_counter()
        catalogue, sids_NT, x_NE = _encode(tokenizer, prepared / "catalogue.parquet", staging)
        seconds["encode"] = round(time.perf_counter() - started, 2)
        report = _report(config, tokenizer, catalogue, sids_NT, x_NE, seconds)
        gates.check(report, config.tokens.gates)
        settings, tensors = tokenizer.state()
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, staging / "codebooks.safetensors")
        artifacts.write_json(staging / "tokens.json", settings)
        artifacts.write_json(staging / "report.json", report)
        draw_items_per_sid(items_per_sid(sids_NT), staging / "items_per_sid.png")
        manifest["metrics"] = {key: report["quality"][key] for key in ("cpr", "col", "util")}
    return Tokens.load(target)


def _fingerprint(config: Config, prepared: Path) -> str:
    files = artifacts.read_manifest(prepared, verify=False)["files"]
    relevant = {name: entry for name, entry in files.items() if name.startswith(("catalogue", "sequences"))}
    return artifacts.fingerprint(
        FORMAT, config.tokens.model_dump(mode="json"), config.model.codebooks, config.seed, relevant
    )


def _fit(config: Config, prepared: Path) -> tuple[Tokenizer, dict[str, float]]:
    started = time.perf_counter()
    tokenizer = Tokenizer.build(config.tokens, config.model.codebooks, seed=config.seed)
    sample = _sample(prepared / "catalogue.parquet", config.tokens.embedder.sample_items, config.seed)
    tokenizer.fit(sample, _interactions(config, prepared), seed=config.seed)
    return tokenizer, {"fit": round(time.perf_counter() - started, 2)}


def _interactions(config: Config, prepared: Path) -> Interactions | None:
    if not config.tokens.embedder.behaviour_dimensions and not config.tokens.cooccurrence.enabled:
        return None
    if not (prepared / "sequences").is_dir():
        log.warning("%s holds no sequences: tokens without the behaviour part", prepared)
        return None
    interactions = read_interactions(prepared / "sequences")
    return interactions if interactions.item_ids else None


def _sample(path: Path, size: int, seed: int) -> pa.Table:
    """`size` rows of the catalogue, drawn evenly; holds no more than the sample and one batch."""
    rows = pq.ParquetFile(path).metadata.num_rows
    if not rows:
        raise UserError(f"{path} holds no item", remedy="prepare a catalogue with at least one row")
    wanted = np.arange(rows) if rows <= size else np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
    parts, start = [], 0
    for batch in _batches(path):
        here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)] - start
        parts.append(batch.take(pa.array(here)))
        start += batch.num_rows
    return pa.concat_tables(parts)


def _batches(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=65_536):
            yield pa.Table.from_batches([batch])


def _encode(tokenizer: Tokenizer, path: Path, staging: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Write sids.parquet and quarantine.parquet batch by batch.

    Returns (the account of the rows, sids_NT of the kept items, vectors of the first of them).
    """
    reasons: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    seen: set[str] = set()
    sids, vectors, held = [], [], 0
    with (
        pq.ParquetWriter(staging / "sids.parquet", SID_SCHEMA) as kept_file,
        pq.ParquetWriter(staging / "quarantine.parquet", QUARANTINE_SCHEMA) as quarantine_file,
    ):
        for batch in _batches(path):
            encoded = tokenizer.encode(batch)
            ids = batch.column("item_id").to_pylist()
            reason_N = [_reason(item_id, fine, seen) for item_id, fine in zip(ids, encoded.usable_N, strict=True)]
            keep_N = np.array([reason is None for reason in reason_N], bool)
            reasons.update(reason for reason in reason_N if reason)
            kept = batch.select(["item_id", "kind"]).filter(pa.array(keep_N))
            kinds.update(kept.column("kind").to_pylist())
            sids.append(encoded.sids_NT[keep_N])
            if held < SIMILARITY_SAMPLE:
                vectors.append(encoded.x_NE[keep_N])
                held += len(vectors[-1])
            kept_file.write_table(_sid_table(kept, sids[-1]))
            quarantine_file.write_table(_quarantine_table(ids, reason_N))
    kept_rows, quarantined = sum(map(len, sids)), sum(reasons.values())
    account: dict[str, Any] = {"rows": kept_rows + quarantined, "kept": kept_rows, "quarantined": quarantined}
    account |= {"reasons": dict(reasons), "kinds": dict(kinds)}
    return account, np.concatenate(sids), np.concatenate(vectors)


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


def _sid_table(kept: pa.Table, sids_NT: np.ndarray) -> pa.Table:
    levels = sids_NT.shape[1]
    offsets = pa.array(np.arange(0, len(sids_NT) * levels + 1, levels), pa.int32())
    sid = pa.ListArray.from_arrays(offsets, pa.array(sids_NT.ravel(), pa.int32()))
    return pa.Table.from_arrays([kept["item_id"], pa.chunked_array([sid]), kept["kind"]], schema=SID_SCHEMA)


def _quarantine_table(ids: list[str | None], reason_N: list[str | None]) -> pa.Table:
    rows = [(item_id, reason) for item_id, reason in zip(ids, reason_N, strict=True) if reason]
    return pa.Table.from_arrays(
        [pa.array([row[0] for row in rows], pa.string()), pa.array([row[1] for row in rows], pa.string())],
        schema=QUARANTINE_SCHEMA,
    )


def _report(
    config: Config,
    tokenizer: Tokenizer,
    catalogue: dict[str, Any],
    sids_NT: np.ndarray,
    x_NE: np.ndarray,
    seconds: dict[str, float],
) -> dict[str, Any]:
    codebooks = config.model.codebooks
    settings, _ = tokenizer.quantizer.state()
    return {
        "catalogue": catalogue,
        "quality": sid_quality(sids_NT, codebooks),
        "pas": path_similarity(x_NE, sids_NT[: len(x_NE)]),
        "fitted_sizes": settings["fitted_sizes"],
        "codebooks": list(codebooks),
        "items_per_sid": items_per_sid(sids_NT),
        "seconds": seconds,
    }
