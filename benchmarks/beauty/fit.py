"""One training of a row of the Beauty table: epochs, averaged weights, early stop on validation, resume.

Everything that decides what comes next is in the checkpoint, written after each epoch, so that a run that is cut goes
on with the next one and ends with the same numbers.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adbeam import artifacts

STATE, LOG = "state.pt", "epochs.json"


@dataclass(frozen=True)
class Recipe:
    """How a row is trained."""

    epochs: int
    patience: int
    """Epochs without a better validation after which training ends."""
    learning_rate: float
    weight_decay: float
    warmup_steps: int = 200
    final_share: float = 0.1
    """Of the learning rate, at the last epoch (cosine)."""
    average: float = 0.998
    """Decay of the running mean of the weights, which is what is judged."""
    clipping: float = 1.0
    validate_from: int = 3
    """First epoch (from 1) that is validated."""


@dataclass
class Progress:
    """Where a training is."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    best_epoch: int = 0
    finished: bool = False


Batches = Callable[[int], Iterator[Any]]
Loss = Callable[[Any], Tensor]
Judge = Callable[[nn.Module], dict[str, float]]


class Fit:
    """A training in `folder`; `judge` gives validation metrics of a model, the first of which decides."""

    def __init__(
        self, model: nn.Module, groups: list[dict[str, Any]], recipe: Recipe, folder: Path, seed: int, *shape: Any
    ) -> None:
        """`shape` is whatever else decides the numbers: a checkpoint of another recipe or shape is begun anew."""
        self.key = artifacts.fingerprint(asdict(recipe), seed, *shape)
        self.model, self.recipe, self.folder, self.seed = model, recipe, folder, seed
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
        self.mean = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.best = dict(self.mean)
        self.progress, self.epochs = Progress(), list[dict[str, float]]()
        folder.mkdir(parents=True, exist_ok=True)
        self._restore()

    def run(self, batches: Batches, loss: Loss, judge: Judge, stop_at: float) -> bool:
        """Train to the end, or until the clock (time.monotonic) passes `stop_at` and an epoch is over; tells which."""
        while not self.progress.finished:
            began = time.monotonic()
            row = self._epoch(batches, loss)
            if self.progress.epoch >= self.recipe.validate_from:
                row |= self._judged(judge)
            done = (
                self.progress.epoch - max(self.progress.best_epoch, self.recipe.validate_from) >= self.recipe.patience
            )
            self.progress.finished = done or self.progress.epoch >= self.recipe.epochs
            self.progress.seconds += time.monotonic() - began
            self.epochs.append({"epoch": self.progress.epoch, "seconds": self.progress.seconds, **row})
            self._save()
            print(self.folder.name, json.dumps(self.epochs[-1]), flush=True)
            if time.monotonic() > stop_at:
                break
        return self.progress.finished

    def best_model(self) -> nn.Module:
        """The model with the weights of the best epoch."""
        self.model.load_state_dict(self.best)
        return self.model.eval()

    def _epoch(self, batches: Batches, loss: Loss) -> dict[str, float]:
        self.model.train()
        torch.manual_seed(self.seed * 100_003 + self.progress.epoch)
        total, count = 0.0, 0
        for batch in batches(self.progress.epoch):
            value = loss(batch)
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clipping)
            self._set_rate()
            self.optimizer.step()
            self.progress.step += 1
            self._average()
            total, count = total + value.item(), count + 1
        self.progress.epoch += 1
        return {"loss": total / count}

    def _judged(self, judge: Judge) -> dict[str, float]:
        """Validation of the averaged weights; keeps them when they are the best so far."""
        own = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.mean)
        metrics = judge(self.model.eval())
        self.model.load_state_dict(own)
        value = next(iter(metrics.values()))
        if value > self.progress.best:
            self.progress.best, self.progress.best_epoch = value, self.progress.epoch
            self.best = {name: value.clone() for name, value in self.mean.items()}
        return metrics

    def _set_rate(self) -> None:
        recipe, progress = self.recipe, self.progress
        warmup = min(1.0, (progress.step + 1) / max(1, recipe.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * progress.epoch / recipe.epochs))
        rate = recipe.learning_rate * warmup * (recipe.final_share + (1 - recipe.final_share) * cosine)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)

    @torch.no_grad()
    def _average(self) -> None:
        # Young means follow the weights closely: the first steps are not worth keeping.
        decay = min(self.recipe.average, self.progress.step / (self.progress.step + 10))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 1 - decay)

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "mean": self.mean,
            "best": self.best,
            "progress": vars(self.progress),
            "epochs": self.epochs,
            "key": self.key,
        }
        partial = self.folder / f".{STATE}.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / STATE)
        artifacts.write_json(self.folder / LOG, self.epochs)

    def _restore(self) -> None:
        path = self.folder / STATE
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        if state["key"] != self.key:
            print(f"{self.folder.name}: the checkpoint is of other settings; training begins anew", flush=True)
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.mean, self.best = state["mean"], state["best"]
        self.progress, self.epochs = Progress(**state["progress"]), state["epochs"]
