"""`adbeam train` as a process of its own, for tests that kill it or parts of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from tests.support.training.samples import training_config

from adbeam.config import Config
from adbeam.training.data.build_rows import build_rows
from adbeam.training.reference_loop import train_plain
from adbeam.training.trainer import build_job
from adbeam.workdir import WorkDir

STEPS, CHECKPOINT_EVERY = 80, 5
DEADLINE_SECONDS = 400
CURVE_TOLERANCE = 0.03
"""Largest relative difference of a step's loss to one undisturbed process: rounding, grown over the steps.
Another batch or a lost optimiser state moves a loss by much more."""
TRAINING: dict[str, Any] = {
    "workers": 2,
    "epochs": 100,
    "learning_rate": 0.001,
    "max_steps": STEPS,
    "report_interval_steps": 1,
    "checkpoint_interval_steps": CHECKPOINT_EVERY,
}
_ALONE: dict[str, list[float]] = {}
"""Losses of one process by what was changed of TRAINING: the sample is the same for every test."""


def write_settings(work_dir: Path, name: str = "train.yaml", **training: Any) -> Path:
    """YAML of TRAINING with some settings changed."""
    config = training_config(work_dir, {**TRAINING, **training})
    path = work_dir / name
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())), encoding="utf-8")
    return path


def start(settings: Path, log: Path) -> subprocess.Popen[bytes]:
    """`adbeam train`, in a session of its own."""
    command = [sys.executable, "-m", "adbeam.cli", "train", "--config", str(settings)]
    with log.open("wb") as stream:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
        )


def wait_for_checkpoint(work_dir: Path, driver: subprocess.Popen[bytes]) -> int:
    """Step of the first checkpoint that Ray Train has registered."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        for snapshot in WorkDir(work_dir).training_runs.glob("*/checkpoint_manager_snapshot.json"):
            found = re.findall(r"step_(\d+)_world2", snapshot.read_text(encoding="utf-8"))
            if found:
                return int(max(found))
        assert driver.poll() is None, "the driver ended"
        time.sleep(0.05)
    raise AssertionError("no checkpoint in time")


def steps_in(log: Path) -> list[int]:
    """Steps that a run printed."""
    return [int(step) for step in re.findall(r"^step (\d+)/", log.read_text(encoding="utf-8"), flags=re.MULTILINE)]


def train_workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The worker processes of Ray Train under a driver with a Ray of its own."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def assert_curve_is_that_of_one_process(work_dir: Path, **training: Any) -> None:
    """The published losses against plain PyTorch without disturbance; `training` as in write_settings."""
    losses = pq.read_table(WorkDir(work_dir).training / "history.parquet")["loss"].to_pylist()
    changed = json.dumps(training, sort_keys=True)
    if changed not in _ALONE:
        alone: Config = training_config(work_dir, {**TRAINING, **training, "workers": 0})
        job, stream = build_job(alone, build_rows(alone, use_ray=False), work_dir / "plain")
        _ALONE[changed] = [row["loss"] for row in train_plain(job, stream)[1]]
    assert losses == pytest.approx(_ALONE[changed], rel=CURVE_TOLERANCE)
