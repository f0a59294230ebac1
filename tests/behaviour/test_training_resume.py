"""The training driver is killed half-way; the same command then finishes the run from its last checkpoint."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from tests.training_samples import training_config, write_training_sample

from adbeam.training.ingest import build_rows
from adbeam.training.plain import train_plain
from adbeam.training.trainer import build_job

STEPS, CHECKPOINT_EVERY = 80, 5
DEADLINE_SECONDS = 400
CURVE_TOLERANCE = 0.03
"""Largest relative difference of a step's loss to one undisturbed process: rounding, grown over the steps.
Another batch or a lost optimiser state moves a loss by much more."""


def test_a_killed_driver_loses_at_most_one_checkpoint_interval(tmp_path: Path) -> None:
    write_training_sample(tmp_path)
    training = {
        "workers": 2,
        "epochs": 100,
        "learning_rate": 0.001,
        "max_steps": STEPS,
        "report_interval_steps": 1,
        "checkpoint_interval_steps": CHECKPOINT_EVERY,
    }
    config = training_config(tmp_path, training)
    settings = tmp_path / "train.yaml"
    settings.write_text(yaml.safe_dump(json.loads(config.model_dump_json())), encoding="utf-8")

    driver = start(settings, tmp_path / "first.log")
    saved = wait_for_checkpoint(tmp_path, driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not (tmp_path / "training").exists()
    assert steps_in(tmp_path / "first.log")[-1] < STEPS, "the run was over before the kill"

    second = start(settings, tmp_path / "second.log")
    assert second.wait(DEADLINE_SECONDS) == 0, (tmp_path / "second.log").read_text()
    steps = steps_in(tmp_path / "second.log")
    assert steps[0] > saved, "the second run began again"
    assert steps[0] >= steps_in(tmp_path / "first.log")[-1] - CHECKPOINT_EVERY
    assert steps == list(range(steps[0], STEPS + 1))

    losses = pq.read_table(tmp_path / "training" / "history.parquet")["loss"].to_pylist()
    alone = training_config(tmp_path, {**training, "workers": 0})
    job, stream = build_job(alone, build_rows(alone, use_ray=False), tmp_path / "plain")
    expected = [row["loss"] for row in train_plain(job, stream)[1]]
    assert losses == pytest.approx(expected, rel=CURVE_TOLERANCE)


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
        for snapshot in work_dir.glob("training_runs/*/checkpoint_manager_snapshot.json"):
            found = re.findall(r"step_(\d+)_world2", snapshot.read_text(encoding="utf-8"))
            if found:
                return int(max(found))
        assert driver.poll() is None, (work_dir / "first.log").read_text()
        time.sleep(0.05)
    raise AssertionError("no checkpoint in time")


def steps_in(log: Path) -> list[int]:
    """Steps that a run printed."""
    return [int(step) for step in re.findall(r"^step (\d+)/", log.read_text(encoding="utf-8"), flags=re.MULTILINE)]
