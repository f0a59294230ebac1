"""The foundation on a real Ray worker group: every ZeRO stage takes the steps that one process takes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.support.foundation.samples import foundation_config

from adbeam import artifacts
from adbeam.foundation import foundation, represent
from adbeam.foundation.loop import FoundationWorker
from adbeam.foundation.tables import Representations
from adbeam.foundation.trainer import build_job
from adbeam.training.launch import build_trainer
from adbeam.training.loop import DATASET
from adbeam.training.step_loop import run_worker
from adbeam.workdir import WorkDir

CURVE_TOLERANCE = 1e-4
"""Largest relative difference of a step's loss to one process with the same global batch, in float32."""


def test_zero_stages_on_two_workers_follow_one_process(ray_session: None, tmp_path: Path) -> None:
    shape, training = {"unknown_share": 0.0}, {"max_steps": 12, "max_failures": 0}
    foundation(foundation_config(tmp_path, training, shape))
    (run,) = WorkDir(tmp_path).foundation_runs.glob("*/metrics.parquet")
    expected = pq.read_table(run)["loss"].to_pylist()
    config = foundation_config(tmp_path, {**training, "workers": 2, "cpus_per_worker": 0.5}, shape)
    job, stream = build_job(config, artifacts.read_manifest(WorkDir(tmp_path).foundation_rows), tmp_path / "stages")

    def run_stages(worker: dict[str, Any]) -> dict[int, list[float]]:
        import ray.train

        shard, job, curves = ray.train.get_dataset_shard(DATASET), worker["job"], {}
        for stage in range(4):
            partition = {"zero_optimization": {"stage3_param_persistence_threshold": 0}} if stage == 3 else {}
            settings = job.training.model_copy(update={"zero_stage": stage, "deepspeed": partition})
            outcome = run_worker(replace(job, training=settings, checkpoints=False), shard, FoundationWorker)
            curves[stage] = [row["loss"] for row in outcome.history]
        return curves

    curves = build_trainer(job, stream, run_stages).fit().return_value
    assert sorted(curves) == [0, 1, 2, 3]
    for stage, losses in curves.items():
        assert losses == pytest.approx(expected, rel=CURVE_TOLERANCE), f"ZeRO stage {stage}"


def test_ray_data_gives_the_states_of_one_process(ray_session: None, tmp_path: Path) -> None:
    config = foundation_config(tmp_path, represent={"workers": 0})
    foundation(config)
    alone = Representations.open(represent(config))
    shutil.rmtree(WorkDir(tmp_path).representations)
    shared = Representations.open(represent(foundation_config(tmp_path, represent={"workers": 1})))
    for name in ("users", "items", "content"):
        one, other = getattr(alone, name), getattr(shared, name)
        assert one.ids.equals(other.ids) and np.array_equal(one.time_R, other.time_R)
        np.testing.assert_allclose(one.mean_RE, other.mean_RE, atol=1e-5)
