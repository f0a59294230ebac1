"""From sequences and semantic IDs to training rows, once: epochs then read arrays instead of building contexts.

Each data task turns one shard of sequences into one shard of rows, a few users in memory at a time. A context holds
only events before its request, a target only items with a semantic ID, and only the training split is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.declared.encoder import FILE as FEATURES
from adbeam.declared.encoder import FeatureEncoder
from adbeam.errors import UserError
from adbeam.features.sid_table import SidTable, with_items_told
from adbeam.features.spec import FeatureSpec
from adbeam.features.trends import EncodedTrends
from adbeam.logs.prepared import PreparedLog, resolve_target
from adbeam.logs.requests import read_sequences
from adbeam.logs.sources.base import CATALOGUE_FILE
from adbeam.logs.trending import FILE as TRENDS
from adbeam.logs.trending import TrendTable
from adbeam.model.config import ModelConfig
from adbeam.targeting.features import Features
from adbeam.training.config import BehaviorWeights, TrainingConfig
from adbeam.training.data.order import RowFiles
from adbeam.training.data.prefix_rows import PrefixRowBuilder
from adbeam.training.data.row_builder import RowBuilder
from adbeam.training.data.rows import RowFormat
from adbeam.workdir import SEQUENCES, SIDS, WorkDir

FORMAT = 2
"""Of the folder; a change of it makes the rows anew."""
SEED = 0
"""Rows are the same for every seed of a training, so that several seeds share them; the order of steps is not."""
GROUP_ROWS = 1024
BUFFER_ROWS = 32 * GROUP_ROWS
SAMPLE_VALUES = 20_000


class TrainSettings(Protocol):
    """What of the root configuration training reads."""

    @property
    def work_dir(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def model(self) -> ModelConfig: ...
    @property
    def training(self) -> TrainingConfig: ...


def training_of(settings: TrainSettings) -> TrainingConfig:
    """The training's settings with the action that is meant in place of `auto`: what runs, records and fingerprints
    tell."""
    training = settings.training
    action = resolve_target(training.target_action, WorkDir.of(settings.work_dir).prepared)
    return training.model_copy(update={"target_action": action})


def model_of(settings: TrainSettings) -> ModelConfig:
    """The model's settings with the declared features that the prepared log was fitted for.

    Raises UserError where the log was prepared with other features than are declared now.
    """
    folder = WorkDir.of(settings.work_dir).prepared
    encoder = FeatureEncoder.read(folder)
    shapes, of_items = (encoder.shapes, encoder.item_shapes) if encoder else ({}, {})
    fitted = sorted([*shapes, *of_items])
    features: Features | None = getattr(settings, "features", None)  # settings of a caller's own need not have them
    declared = fitted if features is None else sorted(name for name, one in features.items() if one.model)
    if declared != fitted:
        raise UserError(
            f"{folder} was prepared for a model that is told {', '.join(fitted) or 'nothing'}",
            field="features",
            value=", ".join(declared) or "none with model: true",
            remedy="run prepare again",
        )
    return settings.model.model_copy(update={"told": shapes, "told_items": of_items})


@dataclass(frozen=True)
class RowStore:
    """The published rows of one log."""

    files: RowFiles
    format: RowFormat
    fingerprint: str
    value_sample: np.ndarray
    """Values of targets, for the eCPM buckets."""
    user_value_sample: np.ndarray
    """Ad values of users, in rising order, for w_user."""
    scenes: tuple[str, ...]
    """Where requests came from, by name."""

    @classmethod
    def open(cls, folder: Path) -> RowStore:
        """Raises UserError when the folder is missing, incomplete or altered."""
        manifest = artifacts.read_manifest(folder)
        shards = manifest["shards"]
        return cls(
            files=RowFiles(folder, tuple(s["name"] for s in shards), tuple(s["rows"] for s in shards)),
            format=RowFormat(**manifest["format"]),
            fingerprint=manifest["fingerprint"],
            value_sample=np.load(folder / "values.npy", allow_pickle=False),
            user_value_sample=np.load(folder / "user_values.npy", allow_pickle=False),
            scenes=tuple(manifest["scenes"]),
        )


def build_rows(settings: TrainSettings, *, use_ray: bool = True) -> RowStore:
    """Write `work_dir/training_rows` from the prepared log and its tokens; does nothing when it is current.

    Raises UserError when a step before this one has not run, or no request has a target.
    """
    target = WorkDir.of(settings.work_dir).training_rows
    details: dict[str, Any] = {"fingerprint": _fingerprint(settings)}
    if artifacts.is_current(target, details):
        return RowStore.open(target)
    with artifacts.publish(target, details) as staging:
        format = _format(settings)
        shards = sorted(_build_shards(settings, format, staging, use_ray), key=lambda shard: shard["name"])
        total = sum(shard["rows"] for shard in shards)
        if not total:
            raise UserError(
                "the training split holds no request with a target that has a semantic ID",
                field="training.target_action",
                value=training_of(settings).target_action,
                remedy="check the split and the catalogue",
            )
        details |= {
            "shards": [{"name": shard["name"], "rows": shard["rows"]} for shard in shards if shard["rows"]],
            "format": format.as_dict(),
            "targets": sum(shard["targets"] for shard in shards),
            "scenes": sorted({scene for shard in shards for scene in shard["scenes"]}),
        }
        _save_sample(staging / "values.npy", [shard["values"] for shard in shards])
        _save_sample(staging / "user_values.npy", [shard["user_values"] for shard in shards])
    return RowStore.open(target)


def _build_shards(settings: TrainSettings, format: RowFormat, staging: Path, use_ray: bool) -> list[dict[str, Any]]:
    work_dir = WorkDir.of(settings.work_dir)
    paths = sorted(work_dir.sequences.glob("*.parquet"))
    sids = told_sids(work_dir, settings.model.levels)
    spec = FeatureSpec.of(model_of(settings))
    training = training_of(settings)
    rest = {
        "prepared": str(work_dir.resolve().prepared),
        "spec": spec.as_dict(),
        "format": format.as_dict(),
        "target_action": training.target_action,
        "weights": training.behavior_weights.model_dump(),
        "seed": SEED,
    }
    tasks = [{"source": str(path), "target": str(staging / f"rows-{n:05d}.parquet")} for n, path in enumerate(paths)]
    if not use_ray:
        return [_build_shard(task, sids, rest) for task in tasks]
    return _map_with_ray(tasks, sids, rest, training.ingest_cpus)


def told_sids(work_dir: WorkDir, levels: int) -> SidTable:
    """The semantic IDs of a work_dir, and the declared features of the items where the model is told any."""
    sids, encoder = SidTable.read(work_dir.sids, levels), FeatureEncoder.read(work_dir.prepared)
    if encoder is None or not encoder.items:  # the catalogue is not read for nothing
        return sids
    return with_items_told(sids, PreparedLog.open(work_dir.prepared, verify=False).catalogue(), encoder)


def _map_with_ray(
    tasks: list[dict[str, str]], sids: SidTable, rest: dict[str, Any], cpus: float
) -> list[dict[str, Any]]:
    """A streaming Ray Data map; the SID table goes once into the object store of each node."""
    import ray

    shared = ray.put((sids.key_N, sids.code_NT, sids.told_NK))
    dataset: Any = ray.data.from_items(tasks, override_num_blocks=len(tasks))
    mapped = dataset.map(_build_shard_in_task, fn_kwargs={"shared": [shared], "rest": rest}, num_cpus=cpus)
    answers: list[dict[str, Any]] = mapped.take_all()
    return answers


def _build_shard_in_task(task: dict[str, str], shared: list[Any], rest: dict[str, Any]) -> dict[str, Any]:
    import ray

    return _build_shard(task, SidTable(*ray.get(shared[0])), rest)


def _build_shard(task: dict[str, str], sids: SidTable, rest: dict[str, Any]) -> dict[str, Any]:
    """Write one shard of rows; returns its name, its totals and a sample of target values."""
    spec = FeatureSpec.from_dict(rest["spec"])
    builder = _builder(sids, spec, rest)
    path = Path(task["target"])
    number = int(path.stem.rsplit("-", 1)[1])
    totals = _Totals()
    rows = totals.watch(builder.each(read_sequences(task["source"])))
    write_rows(path, rows, builder.format, seed=(builder.seed, number))
    return {"name": path.name, **totals.as_dict(), "scenes": sorted(builder.scenes)}


def _builder(sids: SidTable, spec: FeatureSpec, rest: dict[str, Any]) -> RowBuilder | PrefixRowBuilder:
    format, weights = RowFormat(**rest["format"]), BehaviorWeights(**rest["weights"])
    if format.prefixes:
        return PrefixRowBuilder(sids, format, rest["target_action"], weights, rest["seed"])
    trends = EncodedTrends(TrendTable.read(rest["prepared"]), sids, spec) if spec.trending_length else None
    return RowBuilder(sids, spec, format, rest["target_action"], weights, rest["seed"], trends)


@dataclass
class _Totals:
    rows: int = 0
    targets: int = 0
    values: list[np.ndarray] = field(default_factory=list)
    user_values: list[float] = field(default_factory=list)

    def watch(self, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The parts (one user each) as they are, counted."""
        for row_N in parts:
            real = row_N["weight_M"] > 0
            self.rows += len(row_N)
            self.targets += int(real.sum())
            self.values.append(row_N["value_M"][real])
            self.user_values.extend(row_N["user_value"][:1].tolist())
            yield row_N

    def as_dict(self) -> dict[str, Any]:
        values = np.concatenate(self.values) if self.values else np.zeros(0, dtype=np.float32)
        samples = {"values": _thin(values), "user_values": _thin(np.array(self.user_values))}
        return {"rows": self.rows, "targets": self.targets, **{key: part.tolist() for key, part in samples.items()}}


def write_rows(path: Path, parts: Iterable[np.ndarray], format: RowFormat, seed: tuple[int, ...]) -> None:
    """Write rows, shuffled as far as BUFFER_ROWS reaches."""
    rng = np.random.default_rng(seed)
    held, rows = [np.zeros(0, dtype=format.dtype)], 0
    with pq.ParquetWriter(path, format.to_table(held[0]).schema, compression="zstd") as writer:
        for part in parts:
            held.append(part)
            rows += len(part)
            if rows >= BUFFER_ROWS:
                _flush(writer, np.concatenate(held), format, rng)
                held, rows = held[:1], 0
        _flush(writer, np.concatenate(held), format, rng)


def _flush(writer: pq.ParquetWriter, row_N: np.ndarray, format: RowFormat, rng: np.random.Generator) -> None:
    writer.write_table(format.to_table(row_N[rng.permutation(len(row_N))]), row_group_size=GROUP_ROWS)


def _thin(values: np.ndarray) -> np.ndarray:
    """At most SAMPLE_VALUES of them, evenly spaced."""
    return values[:: 1 + len(values) // SAMPLE_VALUES]


def _save_sample(path: Path, parts: list[list[float]]) -> None:
    np.save(path, np.sort(np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])), allow_pickle=False)


def _format(settings: TrainSettings) -> RowFormat:
    """Raises UserError where prefixes are wanted of a model whose contexts tell more than an order."""
    model, training = model_of(settings), settings.training
    if training.prefixes and not (model.order_only and model.decoder == "lazyar" and model.context == "linear"):
        raise UserError(
            "one context serves all prefixes of a user only where it tells an order and nothing else",
            field="training.prefixes",
            value=True,
            remedy="set model.order_only: true (decoder lazyar, context linear), or leave prefixes out",
        )
    if model.neighbour_prior is not None and not training.prefixes:
        raise UserError(
            "a user's own pairs can be taken out of the neighbours' counts only where a row is a user",
            field="model.neighbour_prior",
            remedy="set training.prefixes: true, or leave neighbour_prior out",
        )
    return RowFormat.of(model, training.targets_per_request, prefixes=training.prefixes)


def _fingerprint(settings: TrainSettings) -> str:
    """Of everything the rows depend on."""
    work_dir, training = WorkDir.of(settings.work_dir), training_of(settings)
    prepared = artifacts.read_manifest(work_dir.prepared, verify=False)["files"]
    tokens = artifacts.read_manifest(work_dir.tokens, verify=False)["files"]
    read = (TRENDS, CATALOGUE_FILE, FEATURES) if model_of(settings).told_items else (TRENDS,)
    return artifacts.fingerprint(
        FORMAT,
        {name: value for name, value in prepared.items() if name.startswith(f"{SEQUENCES}/") or name in read},
        tokens[SIDS],
        FeatureSpec.of(model_of(settings)).as_dict(),
        _format(settings).as_dict(),
        training.target_action,
        training.behavior_weights.model_dump(),
    )
