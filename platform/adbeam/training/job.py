"""What a worker of a training is given, what it returns, and how it begins: from the newest checkpoint or afresh."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from adbeam.errors import UserError
from adbeam.model import build_model
from adbeam.model.config import ModelConfig
from adbeam.objectives.config import ObjectivesConfig
from adbeam.training.config import TrainingConfig
from adbeam.training.data.batches import BatchMaker
from adbeam.training.guards.preemption import Stop, never
from adbeam.training.neighbour_table import fill_neighbours
from adbeam.training.state import checkpoint
from adbeam.training.state.checkpoint import RunState
from adbeam.training.state.deepspeed_engine import Engine, build_engine
from adbeam.training.tracking.progress import Post, Row, print_nothing


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """What every run needs beside its data, whatever it trains."""

    training: TrainingConfig
    seed: int
    total_steps: int
    run_folder: Path
    post: Post = print_nothing
    stop: Stop = never
    checkpoints: bool = True
    initial: Path | None = None
    """Weights (safetensors) that a fresh run begins with: continual training."""

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """The model with random weights."""

    def begin(self, model: torch.nn.Module) -> None:
        """Make it what a fresh run begins with; raises UserError where that is of another shape."""
        begin_with(model, self.initial)


@dataclass(frozen=True, kw_only=True)
class TrainJob(Job):
    """A run of the generative model."""

    model: ModelConfig
    objectives: ObjectivesConfig
    maker: BatchMaker
    sids: Path | None = None
    """sids.parquet, where a run that learns from lists, or is judged, looks up which SIDs there are."""
    neighbours: Path | None = None
    """The table (safetensors) of a model whose neighbours vote."""
    prepared: Path | None = None
    """The prepared log, whose validation requests judge a run that may stop early."""

    def build(self) -> torch.nn.Module:
        """See Job."""
        model = build_model(self.model)
        model.activation_checkpointing = self.training.activation_checkpointing
        fill_neighbours(model, self.neighbours)
        return model

    def begin(self, model: torch.nn.Module) -> None:
        """See Job; the neighbours stay those of this run's log."""
        super().begin(model)
        fill_neighbours(model, self.neighbours)


@dataclass(frozen=True)
class Outcome:
    """What a worker returns; `failure` names what stopped the run for good."""

    step: int
    failure: dict[str, Any] | None = None
    history: list[Row] = field(default_factory=list)
    stopped: bool = False
    """The driver ended the run before its end; a checkpoint is there."""


def start(job: Job, local_rank: int) -> tuple[Engine, RunState]:
    """The DeepSpeed engine of this worker, and where the run stands."""
    torch.manual_seed(job.seed)
    model = job.build().train()
    folder = _newest(job) if job.checkpoints else None
    if folder is not None:
        return checkpoint.restore(model, job.training, folder, local_rank)
    job.begin(model)
    return build_engine(model, job.training, torch.distributed.get_world_size()), RunState()


def begin_with(model: torch.nn.Module, initial: Path | None) -> None:
    """Take over weights; raises UserError when they are of another shape."""
    if initial is None:
        return
    try:
        model.load_state_dict(load_file(initial))
    except (RuntimeError, OSError) as error:
        raise UserError(
            "cannot begin with these weights", field="training.start_from", value=initial, remedy=str(error)
        ) from None


def _newest(job: Job) -> Path | None:
    """The folder of the newest checkpoint, on this machine."""
    import ray.train

    if job.training.local:
        return checkpoint.newest_local(job.run_folder / "checkpoints")
    found = ray.train.get_checkpoint()
    if found is None:
        return None
    if not Path(found.path).is_dir():
        return Path(found.to_directory())
    # One worker reads all files; the others take its word.
    whole = [checkpoint.newest_whole(Path(found.path)) if torch.distributed.get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(whole, src=0)
    return whole[0]
