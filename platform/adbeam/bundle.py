"""The bundle: what training hands to serving.

A folder with `model.safetensors`, `config.json`, `codebooks.safetensors`, `ladder_quality.json`,
`catalogue.parquet`, `money.json` and `money.parquet` where the log tells what impressions bring, `features.json` where
the model is told declared features, `embedder/` where new ads need a pretrained model, and `manifest.json` (sha256 of
each file, format version, metrics). It is written whole or not at all, and `CURRENT`, a file that names the bundle in
force, is replaced last. Nothing in it is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import SafetensorError

from adbeam import artifacts
from adbeam.bundle_settings import BundleSettings
from adbeam.declared.encoder import FeatureEncoder
from adbeam.errors import UserError
from adbeam.model.config import ModelConfig
from adbeam.pricing.stored import BundleMoney

if TYPE_CHECKING:
    import torch

FORMAT = 1
CURRENT = "CURRENT"
FILES = ("model.safetensors", "config.json", "codebooks.safetensors", "ladder_quality.json", "catalogue.parquet")
EMBEDDER = "embedder"
SID_COLUMN = "sid"


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle. `catalogue` has the columns of CATALOGUE_SCHEMA and `sid`, a list of T codes."""

    version: str
    model_config: ModelConfig
    settings: BundleSettings
    weights: dict[str, torch.Tensor]
    codebooks: dict[str, torch.Tensor]
    ladder_quality: dict[str, Any]
    catalogue: pa.Table
    manifest: dict[str, Any]
    embedder_dir: Path | None = None
    """The model folder of an embedder that has one."""
    money: BundleMoney | None = None
    """What turns the model's numbers into the money of a thousand impressions; None where the log does not say."""
    told: FeatureEncoder | None = None
    """The declared features that the model learned from; None where it is told none."""

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """The bundle that `path` is, or whose CURRENT names it; see `load_bundle`."""
        return load_bundle(path)


def write_bundle(
    root: str | Path,
    *,
    model_config: ModelConfig,
    settings: BundleSettings,
    weights: dict[str, torch.Tensor],
    codebooks: dict[str, torch.Tensor],
    ladder_quality: dict[str, Any],
    catalogue: pa.Table,
    details: dict[str, Any],
    embedder_files: Iterable[Path] = (),
    money: BundleMoney | None = None,
    told: FeatureEncoder | None = None,
) -> Path:
    """Write a new bundle under `root` and point CURRENT at it; returns its folder.

    `settings` holds what serving must know beside the model's shape (feature vocabulary, eCPM bucket means, quantizer);
    `embedder_files` are the files of a pretrained embedder, with which replicas encode new ads.
    """
    # Here, not above: `resolve` and the manifest are for light readers (operations/status.py); only tensors need torch.
    from safetensors.torch import save_file

    version = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}"
    target = Path(root) / version
    manifest = {**details, "format": FORMAT, "version": version}
    with artifacts.publish(target, manifest) as staging:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, staging / "model.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in codebooks.items()}, staging / "codebooks.safetensors")
        shape = model_config.model_dump()
        artifacts.write_json(staging / "config.json", {"model": shape, "settings": settings.as_dict()})
        artifacts.write_json(staging / "ladder_quality.json", ladder_quality)
        pq.write_table(catalogue, staging / "catalogue.parquet")
        if money is not None:
            money.write(staging)
        if told is not None:
            told.write(staging)
        for path in embedder_files:
            (staging / EMBEDDER).mkdir(exist_ok=True)
            shutil.copyfile(path, staging / EMBEDDER / path.name)
    point_current(root, version)
    return target


def write_again(root: str | Path, bundle: Bundle, details: dict[str, Any], **changed: Any) -> Path:
    """Write `bundle` as a new one with some of its parts `changed`, and point CURRENT at it; returns its folder."""
    parts = {
        name: getattr(bundle, name)
        for name in ("model_config", "settings", "weights", "codebooks", "ladder_quality", "catalogue", "money", "told")
    }
    embedder = sorted(bundle.embedder_dir.glob("*")) if bundle.embedder_dir is not None else []
    return write_bundle(root, **{**parts, **changed}, details=details, embedder_files=embedder)


def point_current(root: str | Path, version: str) -> None:
    """Make `version` the bundle in force: one atomic rename."""
    partial = Path(root) / f".{CURRENT}.{uuid.uuid4().hex[:8]}"
    partial.write_text(version + "\n", encoding="utf-8")
    os.replace(partial, Path(root) / CURRENT)


def resolve(path: str | Path) -> Path:
    """The bundle folder that `path` means: itself, or what its CURRENT pointer names."""
    path = Path(path)
    pointer = path / CURRENT
    if not pointer.is_file():
        return path
    version = pointer.read_text(encoding="utf-8").strip()
    if not version or "/" in version or version.startswith("."):
        raise UserError(f"{pointer} names no bundle", value=version, remedy="export again")
    return path / version


def earlier(path: str | Path) -> list[Path]:
    """The bundles in the folder `path` from before the one in force, the newest first; none for a bundle itself."""
    path = Path(path)
    current = resolve(path)
    if current == path:
        return []
    return sorted(
        (m.parent for m in path.glob(f"*/{artifacts.MANIFEST}") if m.parent.name < current.name), reverse=True
    )


def load_bundle(path: str | Path) -> Bundle:
    """Verify every hash and load.

    Raises UserError naming the file that is missing, corrupt or of another format, and for a model that learned from
    other features than this version builds.
    """
    from safetensors.torch import load_file

    folder = resolve(path)
    manifest = artifacts.read_manifest(folder)
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{folder} has bundle format {manifest.get('format')!r}, this version reads {FORMAT}",
            remedy="export the bundle again",
        )
    missing = [name for name in FILES if name not in manifest["files"]]
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}", remedy="export the bundle again")
    try:
        model_config, settings = _read_config(folder / "config.json")
        return Bundle(
            version=manifest["version"],
            model_config=model_config,
            settings=settings,
            weights=load_file(folder / "model.safetensors"),
            codebooks=load_file(folder / "codebooks.safetensors"),
            ladder_quality=json.loads((folder / "ladder_quality.json").read_text(encoding="utf-8")),
            catalogue=pq.read_table(folder / "catalogue.parquet"),
            manifest=manifest,
            embedder_dir=folder / EMBEDDER if (folder / EMBEDDER).is_dir() else None,
            money=BundleMoney.read(folder),
            told=_read_told(folder, model_config),
        )
    except (SafetensorError, pa.ArrowException, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{folder} cannot be loaded: {error}", remedy="export the bundle again") from None


def _read_config(path: Path) -> tuple[ModelConfig, BundleSettings]:
    config = json.loads(path.read_text(encoding="utf-8"))
    model_config = ModelConfig.parse(config["model"], source=str(path))
    settings = BundleSettings.parse(config["settings"], source=str(path))
    if unlike := settings.unlike(model_config):
        raise UserError(
            f"{path}: the model learned from other features than this version builds",
            field="feature_spec",
            value=", ".join(unlike),
            remedy="serve it with the version that exported it, or train and export again",
        )
    return model_config, settings


def _read_told(folder: Path, model_config: ModelConfig) -> FeatureEncoder | None:
    told = FeatureEncoder.read(folder)
    shapes = (told.shapes, told.item_shapes) if told else ({}, {})
    if shapes != (model_config.told, model_config.told_items):
        raise UserError(f"{folder}: features.json is not of this model", remedy="export the bundle again")
    return told


def catalogue_with_sids(catalogue: pa.Table, sids: pa.Table) -> pa.Table:
    """The catalogue in its order with a column `sid`, null where an item has none."""
    places = pc.index_in(catalogue.column("item_id"), value_set=sids.column("item_id").combine_chunks())
    return catalogue.append_column(SID_COLUMN, sids.column("sid").take(places))
