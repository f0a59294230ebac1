"""The folder of a run, the comparison of runs, and trackers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from adbeam.cli.root import app
from adbeam.errors import UserError
from adbeam.training.config import TrackingConfig
from adbeam.training.tracking.run_record import METRICS, RunRecord, read_record
from adbeam.training.tracking.runs import choose, differing, find_runs, lines
from adbeam.training.tracking.trackers import driver_trackers


def write_run(work_dir: Path, name: str, learning_rate: float, losses: list[float], status: str = "finished") -> None:
    config = {"training": {"learning_rate": learning_rate, "epochs": 2}}
    record = RunRecord(work_dir / "training_runs" / name, config, seed=0, trackers=[])
    for step, loss in enumerate(losses, start=1):
        record({"step": float(step), "loss": loss, "requests_per_second": 10.0})
    record.close(status)


def test_a_resumed_run_replaces_the_steps_that_it_takes_again(tmp_path: Path) -> None:
    write_run(tmp_path, "abc", 0.1, [3.0, 2.0, 1.5], status="failed")
    folder = tmp_path / "training_runs" / "abc"
    again = RunRecord(folder, {"training": {}}, seed=0, trackers=[])
    again({"step": 2.0, "loss": 2.0})
    again({"step": 3.0, "loss": 1.4})
    again.close("finished")
    table = pq.read_table(folder / METRICS)
    assert table["step"].to_pylist() == [1.0, 2.0, 3.0] and table["loss"].to_pylist() == [3.0, 2.0, 1.4]
    record = read_record(folder)
    assert record["status"] == "finished" and record["starts"] == 2 and record["first_started"] <= record["started"]
    assert record["versions"]["torch"] and record["machine"]["cores"] and record["seed"] == 0


def test_runs_are_listed_and_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "aaa1", 0.1, [3.0, 2.0])
    write_run(tmp_path / "b", "bbb2", 0.2, [3.0, 1.0], status="stopped")
    found = find_runs([tmp_path])
    assert {run.name: (run.status, run.step, run.metrics["loss"]) for run in found} == {
        "aaa1": ("finished", 2, 2.0),
        "bbb2": ("stopped", 2, 1.0),
    }
    assert list(differing(found)) == ["training.learning_rate"]
    shown = CliRunner().invoke(app, ["runs", "bbb", "aaa1", "--work-dir", str(tmp_path)]).stdout
    assert shown.splitlines()[1].startswith("bbb2") and "training.learning_rate" in shown
    assert "epochs" not in shown
    with pytest.raises(UserError, match="0 runs"):
        choose(found, ["c"])
    assert lines([]) == ["no runs"]


@pytest.mark.parametrize("settings", [{"mlflow_uri": "file:nowhere"}, {"wandb_project": "ads"}], ids=str)
def test_a_tracker_that_is_not_installed_is_refused_by_name(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"training\.tracking\.{next(iter(settings))}.*pip install"):
        driver_trackers(TrackingConfig.parse(settings), "run", {})


def test_mlflow_keeps_a_run_and_goes_on_in_it(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    config = TrackingConfig(mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="ads")
    for steps in (range(1, 3), range(3, 5)):
        (tracker,) = driver_trackers(config, "abc", {"seed": 1, "training.epochs": 2})
        for step in steps:
            tracker.log(step, {"loss": 1.0 / step})
        tracker.close("finished")
    client = mlflow.MlflowClient(tracking_uri=config.mlflow_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("ads").experiment_id])
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3, 4]
    assert run.data.params == {"seed": "1", "training.epochs": "2"} and run.info.status == "FINISHED"


def test_wandb_is_told_the_project_the_run_and_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against what W&B's own interface names; a real server is not asked."""
    calls: list[Any] = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda exit_code: calls.append(exit_code)
    )

    def init(**arguments: Any) -> SimpleNamespace:
        calls.append(arguments)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    (tracker,) = driver_trackers(TrackingConfig(wandb_project="ads"), "abc", {"seed": 1})
    tracker.log(3, {"loss": 0.5})
    tracker.close("stopped")
    assert calls[0]["project"] == "ads" and calls[0]["id"] == "abc" and calls[0]["config"] == {"seed": 1}
    assert calls[1:] == [(3, {"loss": 0.5}), 1]
