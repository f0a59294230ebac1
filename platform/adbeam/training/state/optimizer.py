"""AdamW and the learning-rate schedule, shared by the DeepSpeed loop and the plain one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from adbeam.model.codes import CodeTable
from adbeam.training.config import TrainingConfig


def parameter_groups(model: nn.Module, training: TrainingConfig) -> list[dict[str, Any]]:
    """Three groups: the matrices of linear layers, which decay; tables of codes and features, with a rate of
    their own (a row of them is seen in few steps only); everything else.
    """
    decayed = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    tables = [module.weight for module in model.modules() if isinstance(module, CodeTable | nn.EmbeddingBag)]
    chosen = {id(parameter) for parameter in (*decayed, *tables)}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay, "rate": 1.0},
        {"params": tables, "weight_decay": 0.0, "rate": training.table_learning_rate_multiple},
        {"params": rest, "weight_decay": 0.0, "rate": 1.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW with fused kernels (torch has them for CPU and GPU)."""
    return torch.optim.AdamW(
        parameter_groups(model, training), lr=training.learning_rate, betas=(0.9, 0.98), eps=1e-8, fused=True
    )


def learning_rate(training: TrainingConfig, step: int, progress: float) -> float:
    """The rate of optimiser step `step` (from 0), at `progress` in [0, 1] of the whole run.

    It rises in a line over `warmup_steps`, then falls by the schedule to final_learning_rate_share of the peak.
    """
    warmup = min(1.0, (step + 1) / training.warmup_steps) if training.warmup_steps else 1.0
    floor = training.final_learning_rate_share
    if training.schedule == "cosine":
        decay = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    elif training.schedule == "linear":
        decay = floor + (1 - floor) * (1 - min(1.0, progress))
    else:
        decay = 1.0
    return training.learning_rate * warmup * decay


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """Set every group of a torch or DeepSpeed optimiser to its multiple of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate", 1.0)
