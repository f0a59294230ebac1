"""Experiment trackers, behind one small interface: TensorBoard always, MLflow or Weights & Biases if asked.

TensorBoard is written by rank 0 beside the checkpoints. The others are told by the driver, so that no worker needs
their credentials, which they read as they always do (MLFLOW_TRACKING_TOKEN, WANDB_API_KEY and the like).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from adbeam.errors import UserError
from adbeam.imports.extension_points import TRACKERS
from adbeam.training.config import TrackingConfig

Metrics = Mapping[str, float]


class Tracker(Protocol):
    """What a run needs of a place for its numbers."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Numbers of optimiser step `step`."""

    def close(self, status: str) -> None:
        """The run is over: "finished", "stopped" or "failed"."""


class TensorBoard:
    """Event files in a folder; steps from `first_step` on replace what an interrupted run wrote."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def log(self, step: int, metrics: Metrics) -> None:
        """One scalar `train/NAME` a number."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def close(self, status: str) -> None:
        """Flush."""
        self._writer.close()


class MLflow:
    """One MLflow run; a resumed run goes on in the one it began."""

    def __init__(self, config: TrackingConfig, name: str, facts: Mapping[str, Any]) -> None:
        module = _installed("mlflow", "training.tracking.mlflow_uri")
        self._client = module.MlflowClient(tracking_uri=config.mlflow_uri)
        experiment = self._client.get_experiment_by_name(config.experiment)
        known = experiment.experiment_id if experiment else self._client.create_experiment(config.experiment)
        found = self._client.search_runs([known], filter_string=f"tags.adbeam_run = '{name}'", max_results=1)
        run = found[0] if found else self._client.create_run(known, run_name=name, tags={"adbeam_run": name})
        self._run_id = run.info.run_id
        if found:
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            for key, value in facts.items():
                self._client.log_param(self._run_id, key, str(value)[:500])

    def log(self, step: int, metrics: Metrics) -> None:
        """All numbers of the step."""
        for name, value in metrics.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def close(self, status: str) -> None:
        """End the MLflow run."""
        ends = {"finished": "FINISHED", "stopped": "KILLED"}
        self._client.set_terminated(self._run_id, status=ends.get(status, "FAILED"))


class WeightsAndBiases:
    """One W&B run, resumed by its id."""

    def __init__(self, config: TrackingConfig, name: str, facts: Mapping[str, Any]) -> None:
        module = _installed("wandb", "training.tracking.wandb_project")
        self._run = module.init(
            project=config.wandb_project, group=config.experiment, name=name, id=name, resume="allow",
            config=dict(facts),
        )  # fmt: skip

    def log(self, step: int, metrics: Metrics) -> None:
        """All numbers of the step."""
        self._run.log(dict(metrics), step=step)

    def close(self, status: str) -> None:
        """End the W&B run."""
        self._run.finish(exit_code=0 if status == "finished" else 1)


def driver_trackers(config: TrackingConfig, name: str, facts: Mapping[str, Any]) -> list[Tracker]:
    """The trackers that the configuration names; raises UserError when one is not installed."""
    asked = {"mlflow": config.mlflow_uri, "wandb": config.wandb_project}
    names = [*(tracker for tracker, where in asked.items() if where is not None), *config.trackers]
    return [TRACKERS.load(tracker)(config, name, facts) for tracker in dict.fromkeys(names)]


def _installed(module: str, field: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"needs the package {module}", field=field, remedy=f"pip install {module}") from None
