"""Ray Train with DeepSpeed ZeRO: ingest, loop, checkpoint, resume, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.training.bundling import ExportSettings
    from adbeam.training.trainer import FitSettings, TrainingResult


def train(config: FitSettings) -> TrainingResult:
    """Train on the prepared log and its tokens into `work_dir/training`; a rerun resumes from the last checkpoint."""
    from adbeam.training.trainer import train as run

    return run(config)


def export(config: ExportSettings) -> Path:
    """Turn `work_dir/training` into a bundle under `work_dir/bundles` and return its folder."""
    from adbeam.training.bundling import export as run

    return run(config)
