"""A loaded model whose ads follow an update log, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adbeam.beams.cost import BatchCost
from adbeam.catalogue.live_ads import LiveAds
from adbeam.serving.config import ServingConfig
from adbeam.serving.deploy.policy import read_policy
from adbeam.serving.engine.load_model import load_model
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.sqlite import SqliteStore


def following_config(bundles: Path, folder: Path, **args: Any) -> ServingConfig:
    """Settings of a replica in `folder` that follows `updates.sqlite` there."""
    return ServingConfig.resolve({"bundle": str(bundles), "updates": {"path": "updates.sqlite"}, **args}, folder)


def following_model(config: ServingConfig, folder: Path) -> LoadedModel:
    """The model in force of such settings; its `live` is to be stopped."""
    cost, store = BatchCost(1.0, 0.5, 0.01), SqliteStore(folder / "h.sqlite")
    return load_model(config.bundle, config, read_policy("static"), store, Metrics(), cost)


def live_ads(model: LoadedModel) -> LiveAds:
    """The ads of a model that follows the log in this process."""
    assert isinstance(model.live, LiveAds)
    return model.live
