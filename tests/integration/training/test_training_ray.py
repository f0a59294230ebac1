"""Training on a real Ray worker group: every ZeRO stage takes the steps that one plain process takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.training.samples import training_config, write_training_sample

from adbeam.training.data.build_rows import build_rows
from adbeam.training.launch import build_trainer
from adbeam.training.loop import DATASET, run_job
from adbeam.training.reference_loop import train_plain
from adbeam.training.trainer import build_job

CURVE_TOLERANCE = 2e-4
"""Largest relative difference of a step's loss to plain PyTorch with the same global batch, in float32."""
STEPS = 16


def test_zero_stages_on_two_workers_follow_plain_torch(ray_session: None, tmp_path: Path) -> None:
    """One worker group runs the stages one after the other, each from the start and fed by Ray Data."""
    write_training_sample(tmp_path)
    training = {"workers": 2, "max_steps": STEPS, "report_interval_steps": 1, "max_failures": 0}
    config = training_config(tmp_path, training)
    job, stream = build_job(config, build_rows(config), tmp_path / "training_runs" / "stages")
    expected = [row["loss"] for row in train_plain(job, replace(stream, use_ray=False))[1]]

    def run_stages(worker: dict[str, Any]) -> dict[int, list[float]]:
        import ray.train

        shard = ray.train.get_dataset_shard(DATASET)
        job, curves = worker["job"], {}
        for stage in range(4):
            partition = {"zero_optimization": {"stage3_param_persistence_threshold": 0}} if stage == 3 else {}
            settings = job.training.model_copy(update={"zero_stage": stage, "deepspeed": partition})
            outcome = run_job(replace(job, training=settings, checkpoints=False), shard)
            curves[stage] = [row["loss"] for row in outcome.history]
        return curves

    curves = build_trainer(job, stream, run_stages).fit().return_value
    assert sorted(curves) == [0, 1, 2, 3]
    for stage, losses in curves.items():
        assert losses == pytest.approx(expected, rel=CURVE_TOLERANCE), f"ZeRO stage {stage}"
    assert sum(expected[-4:]) < 0.95 * sum(expected[:4])
