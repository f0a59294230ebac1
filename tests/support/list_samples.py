"""A sample log with everything that candidate lists need: tokens, a bundle with random weights, a reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from tests.support.training.samples import training_config, write_training_sample

from adbeam.bundle import catalogue_with_sids, write_bundle
from adbeam.bundle_settings import BundleSettings
from adbeam.config import Config
from adbeam.features.spec import FeatureSpec
from adbeam.logs.prepared import PreparedLog
from adbeam.model.lazyar import LazyAR
from adbeam.rewards import reward
from adbeam.workdir import WorkDir

REWARDS = {"embedding_width": 4, "hidden": (16,), "user_buckets": 32, "item_buckets": 128, "attribute_buckets": 32,
           "epochs": 1, "batch_exposures": 64, "workers": 0}  # fmt: skip
LISTS = {"workers": 0, "candidates": 8, "requests_per_user": 2, "explored_share": 0.25, "random_share": 0.25}


def write_untrained_bundle(work_dir: Path, config: Config) -> None:
    """A bundle of the sample's catalogue with random weights."""
    torch.manual_seed(0)
    prepared = PreparedLog.open(WorkDir(work_dir).prepared)
    catalogue = catalogue_with_sids(prepared.catalogue(), pq.read_table(WorkDir(work_dir).sids))
    write_bundle(
        WorkDir(work_dir).bundles,
        model_config=config.model,
        settings=BundleSettings(
            feature_spec=FeatureSpec.of(config.model).as_dict(),
            ecpm_means=[float(b) for b in range(config.model.ecpm_buckets)],
            tokens={"version": "sample"},
        ),
        weights=LazyAR(config.model).state_dict(),
        codebooks={"level_0": torch.zeros(config.model.codebooks[0], 4)},
        ladder_quality={"metric": "none", "full_widths": list(config.decoding.widths), "schedules": []},
        catalogue=catalogue,
        details={},
    )


def list_config(work_dir: Path, training: dict[str, Any] | None = None, **sections: Any) -> Config:
    """A configuration whose work_dir holds prepared/, tokens/, bundles/ and reward/."""
    write_training_sample(work_dir)
    made = training_config(work_dir, training, rewards=REWARDS, lists=LISTS, **sections)
    write_untrained_bundle(work_dir, made)
    reward(made)
    return made
