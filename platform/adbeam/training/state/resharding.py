"""Resharding: checkpoints of another world size or ZeRO stage as whole tensors, and how any engine takes them over.

Of a sharded run DeepSpeed's universal form is read, one folder a parameter with the whole float32 weight and whole
optimiser states; without ZeRO every worker's file holds them. DeepSpeed's own loader of the universal form does not go
between ZeRO-3 and the other stages, and gives every parameter group the settings of the first; so an engine of this
run's layout is built as for a new run, and every worker puts its part of each tensor into it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adbeam.training.config import TrainingConfig
from adbeam.training.state.deepspeed_engine import Engine, build_engine
from adbeam.training.state.optimizer import parameter_groups

WEIGHT, STEP = "fp32", "step"
Whole = Callable[[str, str], Tensor]
"""(parameter, WEIGHT or the name of an optimiser state) -> the whole tensor; zeros where there was no state."""


def resharded(
    model: nn.Module, training: TrainingConfig, state: Path, local_rank: int, steps: int, saved_stage: int
) -> Engine:
    """An engine for `model` with the weights and the optimiser, `steps` steps old, that some other layout of ZeRO stage
    `saved_stage` saved into `state`; without ZeRO in float32 only."""
    if saved_stage == 0:
        return _engine(model, training, steps, *_unsharded(model, training, state))
    with _universal(state, local_rank) as folder:
        states = sorted({path.stem for path in next((folder / "zero").glob("*/")).glob("*.pt")} - {WEIGHT, STEP})
        return _engine(model, training, steps, states, lambda name, kind: _read(folder / "zero" / name / f"{kind}.pt"))


def _engine(model: nn.Module, training: TrainingConfig, steps: int, states: Sequence[str], whole: Whole) -> Engine:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(whole(name, WEIGHT).view_as(parameter))
    engine = build_engine(model, training, torch.distributed.get_world_size())
    _begin_states(engine.optimizer, training.zero_stage, states, steps)
    for name, parameter in engine.module.named_parameters():
        for kind in (WEIGHT, *states):  # the weight again: of a bf16 model the engine took it over rounded
            _put(engine.optimizer, parameter, kind, whole(name, kind), training.zero_stage)
    return engine


def _unsharded(model: nn.Module, training: TrainingConfig, state: Path) -> tuple[list[str], Whole]:
    """(names of the optimiser's states, the tensors) of a run without ZeRO; its optimiser knows parameters by place."""
    saved = torch.load(state / "mp_rank_00_model_states.pt", weights_only=True, mmap=True, map_location="cpu")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ordered = [names[id(parameter)] for group in parameter_groups(model, training) for parameter in group["params"]]
    of_name = {name: saved["optimizer"]["state"].get(place, {}) for place, name in enumerate(ordered)}
    states = sorted({kind for values in of_name.values() for kind in values} - {STEP})

    def whole(name: str, kind: str) -> Tensor:
        weight: Tensor = saved["module"][name]
        return weight if kind == WEIGHT else of_name[name].get(kind, torch.zeros_like(weight))

    return states, whole


def _put(optimizer: Any, parameter: Any, kind: str, value: Tensor, zero_stage: int) -> None:
    """Write this worker's part of a whole weight or optimiser state."""
    from deepspeed import utils

    if zero_stage == 0:
        whole = parameter.data if kind == WEIGHT else optimizer.state[parameter][kind]
        whole.copy_(value.view_as(parameter))
    elif zero_stage < 3 and kind == WEIGHT:
        utils.safe_set_full_fp32_param(parameter, value)
    elif zero_stage < 3:
        utils.safe_set_full_optimizer_state(parameter, value, kind)
    elif kind == WEIGHT:
        utils.safe_set_local_fp32_param(parameter, _part(value, parameter.ds_tensor.numel()))
    else:
        utils.safe_set_local_optimizer_state(parameter, _part(value, parameter.ds_tensor.numel()), kind)


def _begin_states(optimizer: Any, zero_stage: int, names: Sequence[str], steps: int) -> None:
    """States of zeros, `steps` steps old, as an optimiser has them from its first step on."""
    if zero_stage == 0:
        inner, parts = optimizer, [parameter for group in optimizer.param_groups for parameter in group["params"]]
    elif zero_stage == 3:
        inner, parts = optimizer.optimizer, optimizer.fp32_partitioned_groups_flat
    else:
        inner, parts = optimizer.optimizer, optimizer.single_partition_of_fp32_groups
    # PyTorch counts steps in a tensor beside the states, DeepSpeed's own optimisers in a number.
    of_torch = isinstance(inner, torch.optim.Adam)
    for part in parts:
        state = {name: torch.zeros_like(part, requires_grad=False) for name in names}
        count = torch.tensor(float(steps), device=part.device) if of_torch else steps
        inner.state[part] = {STEP: count, **state}
    if zero_stage in (1, 2):
        # Private, but the only way to link the states to their parameters before a first step, as _put needs them.
        optimizer._lazy_init_hp_params_optimizer_state()


def _part(value: Tensor, size: int) -> Tensor:
    """This worker's `size` numbers of a tensor that ZeRO-3 cuts into equal parts, the last filled up with zeros."""
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    whole = value.new_zeros(size * world)
    whole[: value.numel()] = value.flatten()
    return whole[size * rank : size * (rank + 1)]


def _read(path: Path) -> Tensor:
    saved: Tensor | dict[str, Tensor] = torch.load(path, weights_only=True)
    return saved["param"] if isinstance(saved, dict) else saved


@contextmanager
def _universal(state: Path, local_rank: int) -> Iterator[Path]:
    """DeepSpeed's universal form of the checkpoint: one process a node converts, the others wait."""
    key = hashlib.sha256(str(state).encode()).hexdigest()[:16]
    target = Path(tempfile.gettempdir()) / f"adbeam-universal-{key}"
    if local_rank == 0:
        shutil.rmtree(target, ignore_errors=True)
        _convert(state, target)
    torch.distributed.barrier()
    try:
        yield target
        torch.distributed.barrier()
    finally:
        if local_rank == 0:
            shutil.rmtree(target, ignore_errors=True)


def _convert(source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(source), "--output_folder", str(target)]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    environment = {**os.environ, "DS_ACCELERATOR": os.environ.get("DS_ACCELERATOR", "cpu")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"DeepSpeed could not convert {source}: {done.stderr[-2000:]}")
