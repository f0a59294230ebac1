"""A log of impressions and clicks from training to evaluation: every step takes clicks for its targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.click_log import prepare_rewritten
from tests.support.samples import SampleLog
from tests.support.training.samples import training_config, write_training_sample

from adbeam.bundle import load_bundle
from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.evaluation.evaluate import evaluate
from adbeam.export import export
from adbeam.training import train
from adbeam.training.tracking.run_record import read_record


def click_log(work_dir: Path, action: str = "click", training: dict[str, Any] | None = None) -> Config:
    write_training_sample(work_dir)
    folder = work_dir / "sample"
    prepare_rewritten(work_dir, SampleLog(folder / "events.parquet", folder / "catalogue.parquet"), action)
    return training_config(work_dir, {"max_steps": 20, "report_interval_steps": 10, **(training or {})})


def test_every_step_takes_clicks_where_there_are_no_conversions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = click_log(tmp_path)
    trained = train(config)
    export(config)
    assert "the training clicks carry no money" in capsys.readouterr().out
    bundle = load_bundle(tmp_path / "bundles")
    assert sum(bundle.catalogue["popularity"].to_pylist()) > 0
    assert bundle.ladder_quality["metric"] == "recall@10" and bundle.ladder_quality["requests"] > 0
    table = evaluate(config)
    assert table["all/model"]["requests"] > 0 and table["all/popularity"]["recall@10"] > 0
    (folder,) = (tmp_path / "training_runs").iterdir()
    assert read_record(folder)["config"]["training"]["target_action"] == "click"
    named = training_config(tmp_path, {"max_steps": 20, "report_interval_steps": 10, "target_action": "click"})
    again = train(named)
    assert again.reused and again.folder == trained.folder, "the word that is meant names the run"


@pytest.mark.parametrize(("action", "wanted"), [("impression", "auto"), ("click", "conversion")])
def test_a_log_without_targets_is_refused_before_anything_runs(tmp_path: Path, action: str, wanted: str) -> None:
    config = click_log(tmp_path, action, {"target_action": wanted, "workers": 2})
    with pytest.raises(UserError, match=r"training\.target_action: the training split of .* holds"):
        train(config)
    assert not (tmp_path / "training_rows").exists()
