"""Small bundles with random weights: whole in every respect but what a model has learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from adbeam.beams.ladder import generate_schedules, prior_quality
from adbeam.bundle import write_bundle
from adbeam.bundle_settings import BundleSettings
from adbeam.declared.encoder import FeatureEncoder
from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR
from adbeam.records import CATALOGUE_SCHEMA, ItemKind, Status

SCENES = ("display", "mailer")
CATEGORIES = ("bread", "cheese", "coffee", "tea")
ADVERTISERS = ("north", "south", "west")
FULL_WIDTHS = (8, 16, 32)


def random_model_config(**changes: Any) -> ModelConfig:
    """A model small enough for a unit test."""
    shape: dict[str, Any] = {
        "width": 32, "layers": 3, "lazy_layers": 2, "heads": 2, "context_kv_heads": 1, "context_kv_groups": 1,
        "codebooks": (16, 16, 32), "ecpm_buckets": 8, "short_length": 12, "long_length": 6, "item_buckets": 256,
        "prefix_buckets": 256, "user_buckets": 64, "dropout": 0.0,
    }  # fmt: skip
    return ModelConfig(**{**shape, **changes})


def random_catalogue(items: int, config: ModelConfig, seed: int = 0) -> pa.Table:
    """`items` rows with random SIDs, named item-0, item-1, ...; the last tenth is organic, every 20th ad is paused."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "item_id": f"item-{place}",
            "kind": ItemKind.ORGANIC.value if place >= items * 0.9 else ItemKind.AD.value,
            "title": f"Item {place}",
            "category": CATEGORIES[place % len(CATEGORIES)],
            "brand": "brand",
            "advertiser": ADVERTISERS[place % len(ADVERTISERS)],
            "price": round(float(rng.gamma(2.0, 2.0)) + 0.5, 2),
            "ecpm": round(float(rng.gamma(2.0, 3.0)) + 0.1, 3),
            "status": Status.PAUSED.value if place % 20 == 19 else Status.ACTIVE.value,
        }
        for place in range(items)
    ]
    sids = [[int(rng.integers(0, size)) for size in config.codebooks] for _ in rows]
    return pa.Table.from_pylist(rows, schema=CATALOGUE_SCHEMA).append_column(
        "sid", pa.array(sids, pa.list_(pa.int32()))
    )


def write_random_bundle(
    folder: Path,
    items: int = 500,
    *,
    config: ModelConfig | None = None,
    full_widths: tuple[int, ...] = FULL_WIDTHS,
    seed: int = 0,
    catalogue: pa.Table | None = None,
    told: FeatureEncoder | None = None,
    **settings: Any,
) -> Path:
    """Write a bundle under `folder`, point CURRENT at it, and return its own folder; `settings` replace its own. Its
    model is `told` declared features."""
    config = config or random_model_config(**({"told": told.shapes} if told else {}))
    torch.manual_seed(seed)
    model = LazyAR(config)
    schedules = [
        {"widths": list(widths), "quality": prior_quality(widths, full_widths)}
        for widths in generate_schedules(full_widths)
    ]
    return write_bundle(
        folder,
        model_config=config,
        settings=BundleSettings(
            **{
                "feature_spec": FeatureSpec.of(config).as_dict(),
                "ecpm_means": np.geomspace(0.1, 20.0, config.ecpm_buckets).round(4).tolist(),
                "tokens": {},
                "scenes": list(SCENES),
                **settings,
            }
        ),
        weights=model.state_dict(),
        codebooks={f"level_{level}": torch.randn(size, 4) for level, size in enumerate(config.codebooks)},
        ladder_quality={"metric": "prior", "full_widths": list(full_widths), "schedules": schedules},
        catalogue=random_catalogue(items, config, seed) if catalogue is None else catalogue,
        details={"metrics": {}},
        told=told,
    )
