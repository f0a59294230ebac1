"""Lists in the DeepSpeed loop: the same steps as in plain torch, and a rail that ends a run before it is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.support.list_samples import list_config
from tests.support.training.samples import training_config

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.rewards import generate_lists
from adbeam.training import train
from adbeam.training.data.build_rows import build_rows
from adbeam.training.reference_loop import train_plain
from adbeam.training.trainer import build_job, lists_for

CURVE_TOLERANCE = 2e-4
"""Largest relative difference of a step's loss between two ways to compute the same run."""


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = list_config(tmp_path_factory.mktemp("lists-local"))
    generate_lists(config)
    return config.work_dir


def configure(work_dir: Path, training: dict[str, Any], **preference: Any) -> Config:
    settings = {"batch_lists": 8, "max_steps": 16, "report_interval_steps": 1, "learning_rate": 0.003, **training}
    return training_config(work_dir, settings, lists={"candidates": 8}, objectives={"preference": preference})


@pytest.mark.parametrize(
    ("training", "preference"),
    [
        ({"zero_stage": 1}, {"method": "rspo"}),
        ({"zero_stage": 2}, {"method": "rspo", "unified": True}),
    ],
    ids=["rspo-zero1", "uvr-zero2"],
)
def test_deepspeed_takes_the_steps_that_plain_torch_takes(
    work_dir: Path, training: dict[str, Any], preference: dict[str, Any]
) -> None:
    config = configure(work_dir, training, **preference)
    train(config)
    history = pq.read_table(work_dir / "training" / "history.parquet")
    store = build_rows(config, use_ray=False)
    job, stream = build_job(config, store, work_dir / "plain", lists_for(config, store))
    plain = [row["loss"] for row in train_plain(job, stream)[1]]
    assert history["loss"].to_pylist() == pytest.approx(plain, rel=CURVE_TOLERANCE)
    assert {"list_loss", "list_kl", "list_ndcg"} <= set(history.column_names)


def test_a_crossed_rail_ends_the_run_and_publishes_nothing(work_dir: Path) -> None:
    before = (work_dir / "training" / "manifest.json").read_text() if (work_dir / "training").exists() else None
    rails = {"max_kl_nats": 1e-9, "interval_steps": 2, "patience_checks": 2}
    with pytest.raises(UserError, match=r"training\.rails: stopped at step 4: the divergence from the reference"):
        train(configure(work_dir, {"rails": rails, "learning_rate": 0.004}, method="rspo"))
    after = (work_dir / "training" / "manifest.json").read_text() if (work_dir / "training").exists() else None
    assert before == after


def test_training_goes_on_from_given_weights(work_dir: Path) -> None:
    first = train(configure(work_dir, {"max_steps": 20, "learning_rate": 0.008}, method="none"))
    weights = first.folder.parent / "kept.safetensors"
    weights.write_bytes((first.folder / "model.safetensors").read_bytes())
    loss = pq.read_table(first.folder / "history.parquet")["loss"].to_pylist()
    again = train(configure(work_dir, {"max_steps": 2, "start_from": weights, "warmup_steps": 0}, method="none"))
    began = pq.read_table(again.folder / "history.parquet")["loss"].to_pylist()[0]
    assert began < 0.9 * loss[0]
    with pytest.raises(UserError, match="cannot begin with these weights"):
        other = training_config(work_dir, {"max_steps": 2, "start_from": weights}, model={"width": 48})
        train(other)
