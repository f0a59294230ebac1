"""Ray Train with DeepSpeed ZeRO: ingest, loop, checkpoint, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.training.trainer import FitSettings, TrainingResult


def train(config: FitSettings) -> TrainingResult:
    """Train on the prepared log and its tokens into `work_dir/training`; a rerun resumes from the last checkpoint."""
    from adbeam.training.trainer import train as run

    return run(config)
