"""Reward model, list generation and training on lists through Ray Data and Ray Train."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.support.list_samples import LISTS, REWARDS, list_config
from tests.support.training.samples import training_config

from adbeam.rewards import generate_lists, reward
from adbeam.training import train


@pytest.mark.full
@pytest.mark.usefixtures("ray_session")
def test_every_step_runs_on_ray(tmp_path: Path) -> None:
    list_config(tmp_path)
    shutil.rmtree(tmp_path / "reward")
    config = training_config(
        tmp_path,
        {"workers": 2, "cpus_per_worker": 0.5, "batch_lists": 8, "max_steps": 6, "report_interval_steps": 2,
         "rails": {"interval_steps": 2}},
        rewards={**REWARDS, "workers": 2},
        lists={**LISTS, "workers": 1},
        objectives={"preference": {"method": "rspo", "unified": True}},
    )  # fmt: skip
    report = json.loads((reward(config) / "report.json").read_text())
    assert report["converted"]["exposures"] > 20
    manifest = json.loads((generate_lists(config) / "manifest.json").read_text())
    assert manifest["lists"] > 20
    result = train(config)
    assert result.steps == 6
    assert {"list_loss", "list_kl", "entropy_share", "invalid_share"} <= set(result.metrics)
