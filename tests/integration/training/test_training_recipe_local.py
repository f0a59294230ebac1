"""The recipe for logs of items in order, in this process: it learns, stops, publishes its best mean, and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.training.samples import training_config

from adbeam import artifacts
from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.evaluation.evaluate import evaluate
from adbeam.export import export
from adbeam.logs.pipeline import run
from adbeam.training import step_loop, train
from adbeam.training.state.checkpoint import WEIGHTS
from adbeam.workdir import SIDS, WorkDir

ITEMS, CODEBOOKS = 48, (8, 8, 4)
MODEL = {
    "width": 32, "codebooks": CODEBOOKS, "short_length": 10, "long_length": 0, "user_buckets": 1, "ecpm_buckets": 2,
    "order_only": True, "recency_bias": True,
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "prefixes": True, "average_decay": 0.9, "batch_requests": 16, "learning_rate": 0.01, "user_value_weights": False,
    "behavior_weights": {"ad_conversion": 1.0}, "early_stop": {"interval_steps": 15, "requests": 60, "beam_width": 12},
    "zero_stage": 0, "max_steps": 60, "checkpoint_interval_steps": 5, "report_interval_steps": 5,
}  # fmt: skip
OBJECTIVES = {"lambda_mtp": 0.0, "lambda_ecpm": 0.0}


@pytest.fixture
def configure(tmp_path: Path) -> Any:
    """Configurations in work_dirs of their own: users who walk through the items in order, from anywhere."""

    def make(name: str, training: dict[str, Any] | None = None, model: dict[str, Any] | None = None) -> Config:
        rng = np.random.default_rng(0)
        walks = zip(rng.integers(0, ITEMS, 240), rng.integers(5, 12, 240), strict=True)
        lines = [
            " ".join([f"u{user}", *(str((start + place) % ITEMS) for place in range(length))])
            for user, (start, length) in enumerate(walks)
        ]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "log.txt").write_text("\n".join(lines), encoding="utf-8")
        logs = {"source": "sequences", "sequences": {"path": str(folder / "log.txt")}, "shards": 2}
        config = training_config(
            folder, {**TRAINING, **(training or {})}, model={**MODEL, **(model or {})}, objectives=OBJECTIVES,
            logs=logs, updates={"path": None},
        )  # fmt: skip
        prepared = run(config, in_process=True)
        items = prepared.catalogue()["item_id"].to_pylist()
        sids = [[int(item) // 6, int(item) % 6, 0] for item in items]
        with artifacts.publish(WorkDir(folder).tokens, {}) as staging:
            table = {"item_id": items, "sid": pa.array(sids, pa.list_(pa.int32())), "kind": ["ad"] * len(items)}
            pq.write_table(pa.table(table), staging / SIDS)
            save_file({"level_0": torch.zeros(CODEBOOKS[0], 4)}, staging / "codebooks.safetensors")
        return config

    return make


def test_the_recipe_learns_and_a_bundle_of_it_answers(configure: Any) -> None:
    config = configure("work")
    result = train(config)
    assert result.metrics["validation_ndcg"] > 0.3
    table = evaluate_exported(config)
    assert table["new/model"]["recall@10"] > 0.6
    assert table["new/model"]["ndcg@10"] > table["new/popularity"]["ndcg@10"]


def evaluate_exported(config: Config) -> dict[str, dict[str, float]]:
    export(config)
    return evaluate(config, "validation")


def test_a_run_stops_when_it_gets_no_better_and_publishes_its_best(
    configure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.5, 0.4, 0.3, 0.2])
    seen: list[dict[str, torch.Tensor]] = []

    def judged(judge: Any, weights: Any) -> float:
        seen.append({name: value.detach().clone() for name, value in weights.items()})
        return next(values)

    monkeypatch.setattr("adbeam.training.guards.early_stop.ValidationJudge.ndcg", judged)
    stop = {"interval_steps": 5, "patience_checks": 2}
    config = configure("work", {"early_stop": stop})
    result = train(config)
    assert result.steps == 15 and result.metrics["best_step"] == 5
    published = load_file(WorkDir(Path(config.work_dir)).training / WEIGHTS)
    for name, value in seen[0].items():
        torch.testing.assert_close(published[name], value)
    assert any(not torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_a_cut_run_ends_with_the_same_weights(configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(configure("whole"))
    config, step = configure("cut"), step_loop.Worker._step

    def cut(worker: Any, number: int, *rest: Any) -> Any:
        if number == 38:
            raise RuntimeError("cut")
        return step(worker, number, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(step_loop.Worker, "_step", cut)
        with pytest.raises(Exception, match="cut"):
            train(config)
    resumed = train(config)
    assert resumed.steps == whole.steps and not resumed.reused
    one, other = (load_file(result.folder / WEIGHTS) for result in (whole, resumed))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name])


def test_prefixes_are_refused_where_a_context_tells_times(configure: Any) -> None:
    with pytest.raises(UserError, match="order_only"):
        train(configure("work", model={"order_only": False}))
