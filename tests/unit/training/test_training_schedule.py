"""Settings, learning rate and DeepSpeed configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.training.samples import MODEL, training_config
from torch import nn

from adbeam.errors import UserError
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR
from adbeam.training.config import TrainingConfig
from adbeam.training.data.build_rows import RowStore
from adbeam.training.state.deepspeed_engine import deepspeed_config
from adbeam.training.state.optimizer import build_optimizer, learning_rate, parameter_groups, set_learning_rate
from adbeam.training.trainer import run_name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_requests": 10, "lanes": 4}, "batch_requests"),
        ({"workers": 9}, "lanes"),
        ({"workers": [3, 2]}, "workers"),
        ({"workers": [0, 2]}, "workers"),
        ({"zero_stage": 0, "offload_optimizer": True}, "offload_optimizer"),
        ({"deepspeed": {"bf16": {"enabled": True}}}, r"deepspeed\.bf16"),
        ({"batch_requests": 8, "gradient_accumulation": 2}, "gradient_accumulation"),
        ({"learning_rates": 1.0}, "learning_rate"),
        ({"zero_stage": 4}, "zero_stage"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainingConfig.parse(values)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_rises_in_the_warmup_and_falls_to_its_floor(schedule: str) -> None:
    training = TrainingConfig.parse(
        {"learning_rate": 1.0, "warmup_steps": 10, "schedule": schedule, "final_learning_rate_share": 0.1}
    )
    rates = [learning_rate(training, step, (step + 1) / 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.02)
    assert max(rates) == pytest.approx(rates[9])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)


def test_past_its_time_the_rate_stays_at_the_floor() -> None:
    training = TrainingConfig.parse({"learning_rate": 1.0, "warmup_steps": 0, "final_learning_rate_share": 0.1})
    assert learning_rate(training, 5, 1.7) == pytest.approx(0.1)


def test_only_matrices_of_linear_layers_decay_and_nothing_is_left_out() -> None:
    model = LazyAR(ModelConfig.parse(MODEL))
    decayed, tables, rest = parameter_groups(model, TrainingConfig())
    assert {id(p) for p in decayed["params"]} == {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    assert decayed["weight_decay"] > 0 == rest["weight_decay"] == tables["weight_decay"]
    every = [id(p) for p in (*decayed["params"], *tables["params"], *rest["params"])]
    assert sorted(every) == sorted(id(p) for p in model.parameters())


def test_tables_learn_at_their_own_multiple() -> None:
    model = LazyAR(ModelConfig.parse(MODEL))
    optimizer = build_optimizer(model, TrainingConfig(table_learning_rate_multiple=4.0))
    set_learning_rate(optimizer, 0.5)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate[id(model.codes[0].weight)] == rate[id(model.context.token_embedding.weight)] == 2.0
    assert rate[id(model.fuse.gate.weight)] == rate[id(model.norm.weight)] == 0.5


def test_deepspeed_s_own_keys_are_merged_over_ours() -> None:
    training = TrainingConfig.parse(
        {"zero_stage": 3, "deepspeed": {"zero_optimization": {"stage3_param_persistence_threshold": 0}}}
    )
    config = deepspeed_config(training, world=2, parameters=5_000_000)
    assert config["zero_optimization"]["stage"] == 3
    assert config["zero_optimization"]["stage3_param_persistence_threshold"] == 0
    assert config["train_micro_batch_size_per_gpu"] == 64


def test_a_run_is_known_by_what_it_computes_and_not_by_how(tmp_path: Path) -> None:
    store: Any = type("Store", (), {"fingerprint": "rows"})()
    assert RowStore.__annotations__["fingerprint"] == "str"
    known = {"target_action": "conversion"}
    name = run_name(training_config(tmp_path, known), store)
    assert (
        run_name(training_config(tmp_path, {**known, "workers": 2, "zero_stage": 3, "keep_checkpoints": 9}), store)
        == name
    )
    assert run_name(training_config(tmp_path, {**known, "learning_rate": 0.5}), store) != name
    assert run_name(training_config(tmp_path, known, seed=1), store) != name
