"""The loss of every step of a run, by DeepSpeed and by plain torch."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from adbeam.config import Config
from adbeam.training import train
from adbeam.training.data.build_rows import build_rows
from adbeam.training.reference_loop import train_plain
from adbeam.training.tracking import progress
from adbeam.training.trainer import build_job
from adbeam.workdir import WorkDir

CURVE_TOLERANCE = 2e-4
"""Largest relative difference of a step's loss between two ways to compute the same run."""


def curve(config: Config) -> list[float]:
    """The loss of every step."""
    train(config)
    return pq.read_table(WorkDir(Path(config.work_dir)).training / "history.parquet")["loss"].to_pylist()


def plain_curve(config: Config) -> list[float]:
    job, stream = build_job(config, build_rows(config, use_ray=False), Path(config.work_dir) / "plain")
    return [row["loss"] for row in train_plain(job, stream)[1]]


class Recorder:
    """Stands in for the printer: keeps the steps it was told."""

    def __init__(self, steps: list[float]) -> None:
        self.steps = steps

    def __call__(self, row: progress.Row) -> None:
        self.steps.append(row["step"])

    def close(self) -> None:
        pass
