"""Checkpoint and resume: every worker saves its part, Ray merges the parts; a run continues at the very next step.

Every worker lists the hashes of its files beside them. A checkpoint that lacks a file, or holds one that differs, is
passed over for the one before it.

`meta.json` says who wrote it. The same world size and ZeRO stage resume exactly; another world size or stage takes
whole tensors over (resharding.py). The last checkpoint of a run also holds the whole model as safetensors, so nothing
after training reads a pickle.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from adbeam import artifacts
from adbeam.errors import UserError
from adbeam.training.config import TrainingConfig
from adbeam.training.state.deepspeed_engine import Engine, build_engine, full_weights
from adbeam.training.state.resharding import resharded

META, HISTORY, WEIGHTS = "meta.json", "history.json", "model.safetensors"
KEPT = {"average": "average.safetensors", "best": "best.safetensors"}
"""Weights that a run keeps beside its own, by their name in RunState: what it publishes is the last of them it has."""
FILES = "files_rank{rank:05d}.json"
log = logging.getLogger(__name__)


@dataclass
class RunState:
    """Where a run is: `step` optimiser steps are done, which also fixes the place in the data."""

    step: int = 0
    elapsed_seconds: float = 0.0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Of the last steps, which the next one's is judged by."""
    skipped: int = 0
    """Steps left out so far."""
    best_value: float = -1.0
    """Of the early stop's checks, and after which step it was found."""
    best_step: int = 0
    average: dict[str, torch.Tensor] | None = None
    """The running mean of the weights, and the weights of the best check; on rank 0, where the run keeps them."""
    best: dict[str, torch.Tensor] | None = None


def save(engine: Engine, state: RunState, training: TrainingConfig, folder: Path) -> None:
    """Write this worker's part of a checkpoint into `folder`; every rank must call."""
    weights = full_weights(engine) if state.finished else {}  # gathered by all ranks, though rank 0 alone writes them
    # DeepSpeed's converter looks the key up; empty, as no tensor is split but by ZeRO.
    engine.save_checkpoint(str(folder), tag="state", client_state={"step": state.step, "universal_checkpoint_info": {}})
    if torch.distributed.get_rank() == 0:
        for kept, file in KEPT.items():
            if (held := getattr(state, kept)) is not None:
                held = {name: tensor.cpu().contiguous() for name, tensor in held.items()}
                save_file(held, folder / file)
                weights |= held if weights else {}
        if weights:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
        artifacts.write_json(folder / HISTORY, state.history)
        artifacts.write_json(
            folder / META,
            {
                "step": state.step,
                "elapsed_seconds": state.elapsed_seconds,
                "finished": state.finished,
                "losses": state.losses,
                "skipped": state.skipped,
                "world": torch.distributed.get_world_size(),
                "zero_stage": training.zero_stage,
                "dtype": training.dtype,
                **({"best_value": state.best_value, "best_step": state.best_step} if state.best_step else {}),
            },
        )


def seal(folder: Path, rank: int) -> None:
    """List what this worker wrote into `folder`, with hashes; done last."""
    files = {str(path.relative_to(folder)): artifacts.describe(path) for path in folder.rglob("*") if path.is_file()}
    artifacts.write_json(folder / FILES.format(rank=rank), files)


def broken(folder: Path) -> str | None:
    """What is wrong with a checkpoint that Ray merged from the workers' parts; None when it is whole."""
    try:
        world = read_meta(folder)["world"]
        lists = [json.loads((folder / FILES.format(rank=rank)).read_text(encoding="utf-8")) for rank in range(world)]
    except (OSError, ValueError, UserError) as error:
        return str(error)
    for files in lists:
        for name, expected in files.items():
            if not (folder / name).is_file() or artifacts.describe(folder / name) != expected:
                return f"{name} is missing or differs"
    return None


def newest_whole(newest: Path) -> Path | None:
    """`newest`, or the newest of its siblings before it, that is whole; None when none is."""
    older = [path for path in newest.parent.glob("step_*") if path.name < newest.name]
    for folder in (newest, *sorted(older, reverse=True)):
        fault = broken(folder)
        if fault is None:
            return folder
        log.warning("checkpoint %s is passed over: %s", folder.name, fault)
    return None


def name(state: RunState, training: TrainingConfig) -> str:
    """Folder name of a checkpoint. World and stage are in it, so parts of two layouts never mix."""
    world = torch.distributed.get_world_size()
    return f"step_{state.step:08d}_world{world}_zero{training.zero_stage}"


def restore(model: torch.nn.Module, training: TrainingConfig, folder: Path, local_rank: int) -> tuple[Engine, RunState]:
    """(engine, state) as the checkpoint in `folder` left them; raises UserError when this layout cannot load it."""
    meta = read_meta(folder)
    world = torch.distributed.get_world_size()
    same = meta["world"] == world and meta["zero_stage"] == training.zero_stage
    if training.dtype != meta["dtype"]:
        raise UserError("the checkpoint has another precision", field="training.dtype", value=training.dtype)
    if same or (meta["zero_stage"] == 0 and training.zero_stage == 0):
        engine = build_engine(model, training, world)
        engine.load_checkpoint(str(folder), tag="state")
    else:
        _refuse_bf16_stage_zero(meta, training)
        steps = meta["step"] - meta.get("skipped", 0)
        engine = resharded(model, training, folder / "state", local_rank, steps, meta["zero_stage"])
    history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    known = ("step", "elapsed_seconds", "finished", "losses", "skipped", "best_value", "best_step")
    fixed = {key: meta[key] for key in known if key in meta}
    kept: dict[str, Any] = {name: load_file(folder / file) for name, file in KEPT.items() if (folder / file).is_file()}
    return engine, RunState(**fixed, history=history, **kept)


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of a checkpoint; raises UserError when it is missing."""
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        return meta
    except (OSError, ValueError):
        raise UserError(f"{folder} is no checkpoint of adbeam", remedy="remove it and train again") from None


def newest_local(folder: Path) -> Path | None:
    """The newest whole checkpoint that a run in one process published."""
    for path in sorted(folder.glob("step_*"), reverse=True):
        try:
            artifacts.read_manifest(path)
        except UserError as error:
            log.warning("checkpoint %s is passed over: %s", path.name, error)
        else:
            return path
    return None


def publish_local(folder: Path, engine: Engine, state: RunState, training: TrainingConfig) -> Path:
    """Write a checkpoint under `folder` and remove all but the newest `keep_checkpoints`."""
    target = folder / name(state, training)
    with artifacts.publish(target, {"step": state.step}) as staging:
        save(engine, state, training, staging)
    for old in sorted(folder.glob("step_*"))[: -training.keep_checkpoints]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _refuse_bf16_stage_zero(meta: dict[str, Any], training: TrainingConfig) -> None:
    if 0 in (meta["zero_stage"], training.zero_stage) and training.dtype == "bf16":
        raise UserError(
            f"the run's checkpoint is of ZeRO stage {meta['zero_stage']}; in bf16 stage 0 cannot be changed in a run",
            field="training.zero_stage",
            value=training.zero_stage,
            remedy="go on with the old stage, or start a new run with another seed or work_dir",
        )
