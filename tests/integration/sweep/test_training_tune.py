"""A sweep on a real Ray: trials are trainings in processes of their own, judged by recall on validation."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from tests.support.training.samples import training_config, write_training_sample

from adbeam.config import Config
from adbeam.sweep.search import BEST, TABLE, SweepConfig, sweep
from adbeam.sweep.trial import METRIC


@pytest.mark.full
def test_the_best_trial_by_validation_recall_is_written_down(ray_session: None, tmp_path: Path) -> None:
    write_training_sample(tmp_path / "base")
    base = training_config(tmp_path / "base", {"max_steps": 24, "report_interval_steps": 4})
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(json.loads(base.model_dump_json())), encoding="utf-8")
    config = SweepConfig.parse(
        {
            "config": path,
            "folder": tmp_path / "sweep",
            "settings": {"training.learning_rate": {"low": 0.001, "high": 0.02, "log": True}},
            "trials": 2,
            "concurrent": 2,
            "validation_requests": 20,
        }
    )
    rows = sweep(config)
    assert len(rows) == 2 and rows[0][METRIC] >= rows[1][METRIC] >= 0
    rates = {row["settings"]["training.learning_rate"] for row in rows}
    assert len(rates) == 2 and all(0.001 <= rate <= 0.02 for rate in rates)
    assert all(row["step"] == 24 and row["error"] is None for row in rows)
    best = Config.load(tmp_path / "sweep" / BEST)
    assert best.training.learning_rate == rows[0]["settings"]["training.learning_rate"]
    assert pq.read_table(tmp_path / "sweep" / TABLE)[METRIC].to_pylist() == [row[METRIC] for row in rows]
