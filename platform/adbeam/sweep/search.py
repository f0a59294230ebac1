"""`adbeam sweep`: Ray Tune over the handful of settings that matter; what counts is recall on validation requests.

Every trial is one ordinary training in a process of its own and a work_dir of its own, which shares the log, the
tokens and, where it can, the rows of the base configuration. A trial that was cut goes on from its checkpoint, and a
finished one answers at once, so a sweep can be run again. With `halving`, trials whose training loss lags are ended
early (ASHA).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import Field, model_validator

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.settings import Section, read_yaml, set_key
from adbeam.sweep.trial import METRIC, run_trial
from adbeam.training.data.build_rows import build_rows

SWEPT = ("model.", "objectives.", "training.")
FIXED = ("model.codebooks",)
"""Needs other tokens, which a sweep does not make."""
TABLE, BEST = "sweep.parquet", "best.yaml"


class Range(Section):
    """Numbers between two, drawn evenly, or by their logarithm."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("a range needs low < high, and low > 0 with log")
        return self


class SweepConfig(Section):
    """A sweep."""

    config: Path = Field(description="YAML of the jobs that every trial starts from.")
    folder: Path = Field(Path("runs/sweep"), description="Where trials and the table go.")
    settings: dict[str, list[Any] | Range] = Field(
        min_length=1, description="Dotted setting: a list to choose from, or a range {low, high, log}."
    )
    trials: int = Field(8, ge=1)
    concurrent: int = Field(1, ge=1, description="Trials at a time.")
    cpus_per_trial: float = Field(1.0, gt=0)
    validation_requests: int = Field(500, ge=1, description="Requests that judge a trial.")
    halving: bool = Field(False, description="End trials whose training loss lags behind the others' early (ASHA).")
    grace_reports: int = Field(5, ge=1, description="Reports that halving waits for at least.")
    seed: int = Field(0, ge=0, description="Of the drawing of settings.")

    @model_validator(mode="after")
    def _can_be_swept(self) -> Self:
        for name, values in self.settings.items():
            if not name.startswith(SWEPT) or name in FIXED:
                raise ValueError(f"settings: {name} cannot be swept, only settings of {', '.join(SWEPT)} not {FIXED}")
            if isinstance(values, list) and not values:
                raise ValueError(f"settings: {name} has nothing to choose from")
        return self


def sweep(config: SweepConfig) -> list[dict[str, Any]]:
    """Run the trials; returns a row for each, best first, and writes sweep.parquet and best.yaml into the folder.

    Raises UserError when a step before training has not run, or no trial ended.
    """
    import ray

    folder = config.folder.resolve()
    base = _base(config, {})
    for name, values in config.settings.items():
        _base(config, {name: values[0] if isinstance(values, list) else values.low})
    build_rows(base, use_ray=False)
    for name in ("ray.tune", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.WARNING)
    started = not ray.is_initialized()
    if started:
        local: dict[str, Any] = (
            {} if os.environ.get("RAY_ADDRESS") else {"address": "local", "include_dashboard": False}
        )
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        rows = _run(config, base, folder)
    finally:
        if started:
            ray.shutdown()
    ended = sorted((row for row in rows if row[METRIC] is not None), key=lambda row: -row[METRIC])
    if not ended:
        raise UserError("no trial ended", field="folder", value=str(folder), remedy="read the logs of the trials there")
    rows = ended + [row for row in rows if row[METRIC] is None]
    pq.write_table(
        pa.Table.from_pylist([{**row, "settings": json.dumps(row["settings"])} for row in rows]), folder / TABLE
    )
    best = _base(config, rows[0]["settings"])
    (folder / BEST).write_text(yaml.safe_dump(json.loads(best.model_dump_json()), sort_keys=False), encoding="utf-8")
    return rows


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The trials as text, best first."""
    shown = []
    for row in rows:
        value = "ended early" if row[METRIC] is None else f"{row[METRIC]:.4f}"
        settings = "  ".join(f"{name}={_short(value)}" for name, value in row["settings"].items())
        shown.append(f"{value:12} loss {row['loss']:.4f}  {settings}  {row['trial']}")
    return [f"{METRIC} of validation requests", *shown]


def space_of(config: SweepConfig) -> dict[str, Any]:
    """Ray Tune's search space."""
    from ray import tune

    def drawn(values: list[Any] | Range) -> Any:
        if isinstance(values, list):
            return tune.choice(values)
        return (tune.loguniform if values.log else tune.uniform)(values.low, values.high)

    return {name: drawn(values) for name, values in config.settings.items()}


def _run(config: SweepConfig, base: Config, folder: Path) -> list[dict[str, Any]]:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    halving = ASHAScheduler(
        time_attr="training_iteration", metric="loss", mode="min", max_t=1_000_000, grace_period=config.grace_reports
    )
    fixed = {
        "base": {**json.loads(base.model_dump_json()), "work_dir": str(Path(base.work_dir).resolve())},
        "folder": str(folder),
        "requests": config.validation_requests,
    }
    trainable = tune.with_resources(tune.with_parameters(run_trial, **fixed), {"cpu": config.cpus_per_trial})
    tuner = tune.Tuner(
        trainable,
        param_space=space_of(config),
        tune_config=tune.TuneConfig(
            num_samples=config.trials,
            max_concurrent_trials=config.concurrent,
            search_alg=BasicVariantGenerator(random_state=config.seed, max_concurrent=config.concurrent),
            scheduler=halving if config.halving else None,
        ),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0),
    )
    results = tuner.fit()
    return [_row(results[place]) for place in range(len(results))]


def _row(result: Any) -> dict[str, Any]:
    metrics = result.metrics or {}
    return {
        METRIC: metrics.get(METRIC),
        "loss": metrics.get("loss", float("nan")),
        "step": metrics.get("step"),
        "settings": dict(result.config or {}),
        "trial": metrics.get("trial"),
        "error": str(result.error) if result.error else None,
    }


def _base(config: SweepConfig, overrides: Mapping[str, Any]) -> Config:
    return Config.load(config.config, overrides)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def read_sweep(path: Path, overrides: Mapping[str, Any] | None = None) -> SweepConfig:
    """The sweep in a YAML file; raises UserError on anything amiss."""
    values = read_yaml(path)
    for name, value in (overrides or {}).items():
        set_key(values, name, value, source="--set")
    return SweepConfig.parse(values, source=str(path))
