"""A small prepared log and the settings of a foundation that learns from it in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.samples import write_sample_prepared

from adbeam.config import Config
from adbeam.workdir import WorkDir

SHAPE: dict[str, Any] = {
    "embedding_width": 4, "tower_width": 8, "tower_hidden": (16,), "user_buckets": 64, "item_buckets": 128,
    "attribute_buckets": 32, "history_length": 4, "organic_negatives": 2,
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "batch_requests": 64, "lanes": 4, "workers": 0, "warmup_steps": 5, "shuffle_steps": 4, "max_steps": 20,
    "report_interval_steps": 1, "learning_rate": 0.01,
}  # fmt: skip


def foundation_config(
    work_dir: Path, training: dict[str, Any] | None = None, shape: dict[str, Any] | None = None, **sections: Any
) -> Config:
    """Settings in `work_dir`, over a prepared log that is written there first where there is none."""
    if not WorkDir.of(work_dir).prepared.exists():
        write_sample_prepared(work_dir, users=40, items=60, visits=16)
    values = {**SHAPE, **(shape or {}), "training": {**TRAINING, **(training or {})}}
    return Config.parse({"work_dir": work_dir, "foundation": values, **sections})
