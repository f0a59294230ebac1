"""The DeepSpeed engine of a model: ZeRO stage, precision and buckets from our settings, the rest passed through."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from adbeam.errors import UserError
from adbeam.training.config import OWNED_DEEPSPEED_KEYS, TrainingConfig
from adbeam.training.state.optimizer import build_optimizer, parameter_groups

BUCKET_STEP = 1 << 16
LARGEST_BUCKET = 500_000_000
BUCKETS = 4
"""Gradients are exchanged in about so many pieces, the first while later ones are still computed."""


class Engine(Protocol):
    """What training needs of a DeepSpeed engine, which has no types of its own."""

    module: nn.Module
    optimizer: Any
    device: torch.device
    micro_steps: int
    enable_backward_allreduce: bool

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """The model's forward pass."""

    def train(self) -> Any:
        """As of a module."""

    def eval(self) -> Any:
        """As of a module."""

    def backward(self, loss: torch.Tensor) -> Any:
        """Gradients of `loss`, summed over the workers where the step needs them."""

    def step(self) -> Any:
        """Move the weights, at the end of an accumulation."""

    def zero_grad(self) -> Any:
        """Forget the gradients."""

    def was_step_applied(self) -> bool:
        """Whether the last step moved the weights."""

    def get_global_grad_norm(self) -> Any:
        """Norm of the gradients of the last step; None where it is not known."""

    def save_checkpoint(self, folder: str, *, tag: str, client_state: dict[str, Any]) -> Any:
        """Write this worker's part."""

    def load_checkpoint(self, folder: str, *, tag: str) -> Any:
        """Read this worker's part."""

    def destroy(self) -> None:
        """Free what the engine holds."""


def deepspeed_config(training: TrainingConfig, world: int, parameters: int) -> dict[str, Any]:
    """DeepSpeed's configuration; `training.deepspeed` is merged over it, key by key.

    The batch numbers are nominal: the loop normalises its loss by the targets of the whole batch itself, so workers may
    hold unequal parts.
    """
    # A bucket as large as the model would hold what sharding saves. DeepSpeed wants a multiple of its alignment.
    bucket = -(-min(LARGEST_BUCKET, max(parameters // BUCKETS, 1_000_000)) // BUCKET_STEP) * BUCKET_STEP
    zero: dict[str, Any] = {"stage": training.zero_stage}
    if training.zero_stage:
        zero |= {"reduce_bucket_size": bucket, "allgather_bucket_size": bucket, "overlap_comm": training.use_gpu}
    if training.zero_stage == 3:
        # DeepSpeed's own numbers suit models of 10^10 parameters: with them a smaller one stays gathered whole.
        zero |= {"stage3_max_live_parameters": bucket, "stage3_max_reuse_distance": bucket, "sub_group_size": bucket}
        zero["stage3_prefetch_bucket_size"] = min(bucket, 50_000_000)
    if training.offload_parameters:
        zero["offload_param"] = {"device": "cpu", "pin_memory": training.use_gpu}
    if training.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": training.use_gpu}
    part = max(1, training.batch_requests // (world * training.gradient_accumulation))
    own = {
        "train_micro_batch_size_per_gpu": part,
        "gradient_accumulation_steps": training.gradient_accumulation,
        "gradient_clipping": 0.0 if leaves_gradients(training) else training.gradient_clipping,
        "bf16": {"enabled": training.dtype == "bf16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1_000_000_000,  # never: the loop reports itself
    }
    return merge(own, training.deepspeed)


def build_engine(model: nn.Module, training: TrainingConfig, world: int) -> Engine:
    """The engine around `model`, with its weights and a fresh optimiser."""
    deepspeed = import_deepspeed()
    config = deepspeed_config(training, world, sum(parameter.numel() for parameter in model.parameters()))
    own_optimizer = "optimizer" in config
    engine: Engine = deepspeed.initialize(
        model=model,
        optimizer=None if own_optimizer else _optimizer(model, training),
        model_parameters=parameter_groups(model, training) if own_optimizer else None,
        config=config,
    )[0]
    if world == 1 and leaves_gradients(training):
        engine.enable_backward_allreduce = False  # copies every gradient twice, to agree with nobody
    return engine


def leaves_gradients(training: TrainingConfig) -> bool:
    """Whether DeepSpeed leaves gradients as they are, NaN too, so that the loop judges and clips them itself: without
    ZeRO in float32."""
    return training.zero_stage == 0 and training.dtype == "fp32"


def clip_gradients(module: nn.Module, largest: float) -> float:
    """The norm of all gradients; those of a larger norm than `largest` are scaled to it (0: never)."""
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if 0 < largest < float(norm):
        torch.nn.utils.clip_grads_with_norm_(module.parameters(), largest, norm)
    return float(norm)


def import_deepspeed() -> Any:
    """The deepspeed module, quiet, and without the shared-memory op that training never calls (a 45 s compilation)."""
    import deepspeed
    import deepspeed.ops
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


@contextmanager
def whole_weights(module: nn.Module, zero_stage: int) -> Iterator[None]:
    """Inside the block the module's parameters are whole on every worker: ZeRO-3 keeps only parts; all must enter."""
    if zero_stage < 3:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(module.parameters())):
        yield


def full_weights(engine: Engine) -> dict[str, torch.Tensor]:
    """The whole model in float32 on the CPU of rank 0 (empty on the others), from any ZeRO stage; every rank must call.

    Parameters come from the optimiser's float32 copies where it keeps some.
    """
    from deepspeed.utils import safe_get_full_fp32_param

    keep = torch.distributed.get_rank() == 0
    weights = {}
    for name, parameter in engine.module.named_parameters():
        full = safe_get_full_fp32_param(parameter)
        if keep:
            weights[name] = (parameter.data if full is None else full).detach().float().cpu().clone()
    if keep:
        weights |= {name: value.detach().cpu().clone() for name, value in engine.module.named_buffers()}
    return weights


def merge(own: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`own` with the keys of `over` replaced, mappings merged."""
    merged = dict(own)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def with_deepspeed_file(training: TrainingConfig) -> TrainingConfig:
    """The settings with what `deepspeed_file` holds below `deepspeed`: the driver reads it, workers may not have it.

    Raises UserError where it cannot be read or sets what we set.
    """
    path = training.deepspeed_file
    if path is None:
        return training
    refuse = partial(UserError, field="training.deepspeed_file", value=str(path))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise refuse("must hold a JSON object")
    taken = [key for key in OWNED_DEEPSPEED_KEYS if key in values]
    if taken:
        raise refuse(f"{taken[0]} is set by our own settings", remedy="remove it from the file")
    return training.model_copy(update={"deepspeed": merge(values, training.deepspeed), "deepspeed_file": None})


def _optimizer(model: nn.Module, training: TrainingConfig) -> Any:
    if not training.offload_optimizer:
        return build_optimizer(model, training)
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    return DeepSpeedCPUAdam(parameter_groups(model, training), lr=training.learning_rate, betas=(0.9, 0.98))
