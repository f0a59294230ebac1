"""A node goes under a run, with and without notice: the run goes on by itself, with the curve of an undisturbed one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.training.drivers import DEADLINE_SECONDS, STEPS, assert_curve_is_that_of_one_process, write_settings
from tests.support.training.samples import write_training_sample

from adbeam.training.tracking.runs import find_runs

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("zero_stage", [1, pytest.param(3, marks=pytest.mark.full)])
def test_a_run_survives_the_loss_of_a_node_on_fewer_workers(tmp_path: Path, zero_stage: int) -> None:
    told = train_on_two_nodes("kill", tmp_path, zero_stage=zero_stage)
    assert told["worlds"] == [1, 2], "the run did not go on with one worker after two"
    (run,) = find_runs([tmp_path])
    assert run.status == "finished" and run.step == STEPS
    assert_curve_is_that_of_one_process(tmp_path)


@pytest.mark.full
def test_a_node_that_announces_its_end_loses_no_interval(tmp_path: Path) -> None:
    """No checkpoint is due in the whole run: the one that two workers wrote is that of the notice."""
    steps = {"max_steps": 1500, "epochs": 1000, "report_interval_steps": 50, "checkpoint_interval_steps": 100_000}
    told = train_on_two_nodes("drain", tmp_path, **steps)
    assert told["worlds"] == [1, 2]
    (run,) = find_runs([tmp_path])
    assert run.status == "finished" and run.step == 1500


def train_on_two_nodes(mode: str, work_dir: Path, **training: Any) -> dict[str, Any]:
    """What tests.support.training.nodes prints; two workers need both nodes."""
    write_training_sample(work_dir)
    settings = write_settings(work_dir, workers=[1, 2], cpus_per_worker=2, max_failures=4, **training)
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "10"
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    command = [sys.executable, "-m", "tests.support.training.nodes", mode, str(settings)]
    answer = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert answer.returncode == 0, answer.stderr[-4000:]
    return json.loads(next(line for line in answer.stdout.splitlines() if line.startswith("{")))
