"""What a sweep may change, and what a trial shares with its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.training.samples import training_config

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.sweep.search import SweepConfig, lines, read_sweep
from adbeam.sweep.trial import METRIC, write_trial

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens.workers": [1]}, r"tokens\.workers cannot be swept"),
        ({"model.codebooks": [[8, 8, 8]]}, "cannot be swept"),
        ({"training.epochs": []}, "nothing to choose from"),
        ({"training.learning_rate": {"low": 1.0, "high": 0.1}}, "low < high"),
        ({"training.learning_rate": {"low": 0.0, "high": 0.1, "log": True}}, "low > 0"),
        ({"training.learning_rate": {"low": 0.0, "high": 0.1, "logs": True}}, "logs"),
    ],
)
def test_what_cannot_be_swept_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SweepConfig.parse({"config": "jobs/train.yaml", "settings": settings})


def test_the_sweep_that_comes_along_is_whole() -> None:
    config = read_sweep(ROOT / "jobs" / "sweep.yaml")
    for name, values in config.settings.items():
        for value in values if isinstance(values, list) else [values.low, values.high]:
            Config.load(ROOT / config.config, {name: value})


def test_a_trial_has_a_folder_of_its_own_and_shares_the_data(tmp_path: Path) -> None:
    base = training_config(tmp_path / "base")
    (tmp_path / "base" / "tokens").mkdir(parents=True)
    path = write_trial(
        tmp_path / "trial", json.loads(base.model_dump_json()), {"training.learning_rate": 0.5, "model.dropout": 0.3}
    )
    config = Config.load(path)
    assert (config.training.learning_rate, config.model.dropout) == (0.5, 0.3)
    assert config.training.lanes == base.training.lanes and config.work_dir == tmp_path / "trial"
    assert (tmp_path / "trial" / "tokens").resolve() == tmp_path / "base" / "tokens"
    assert not (tmp_path / "trial" / "prepared").exists()


def test_trials_are_shown_best_first_with_those_that_were_cut() -> None:
    rows: list[dict[str, Any]] = [
        {METRIC: 0.25, "loss": 1.0, "settings": {"a": 0.00123456}, "trial": "x"},
        {METRIC: None, "loss": 2.0, "settings": {"a": 3}, "trial": "y"},
    ]
    shown = lines(rows)
    assert "0.2500" in shown[1] and "a=0.00123" in shown[1] and shown[2].startswith("ended early")
