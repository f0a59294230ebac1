"""Means over the steps between two reports, and where the time between them went."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from adbeam.training.state.checkpoint import RunState
from adbeam.training.tracking.progress import Row


class Meter:
    """Means over one report interval."""

    def __init__(self, batch_requests: int) -> None:
        self.batch_requests = batch_requests
        self._reset()

    def _reset(self) -> None:
        self.steps, self.loss, self.requests = 0, 0.0, 0
        self.rate, self.norm = 0.0, 0.0
        self.sums: dict[str, torch.Tensor] = {}
        self.spent = {"data": 0.0, "checkpoint": 0.0}
        self.noted: dict[str, float] = {}
        self.began = time.monotonic()

    @contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Counts the block as time spent on `what`: "data" (waiting for rows) or "checkpoint"."""
        began = time.monotonic()
        yield
        self.spent[what] += time.monotonic() - began

    def add(self, metrics: dict[str, torch.Tensor], requests: int) -> None:
        """Metrics of one part of one step."""
        self.requests += requests
        for key, value in metrics.items():
            self.sums[key] = self.sums.get(key, torch.zeros_like(value)) + value * requests

    def note(self, values: dict[str, float]) -> None:
        """Values that are shown as they are, the last of each."""
        self.noted |= {name: value for name, value in values.items() if not math.isnan(value)}

    def done(self, loss: float, rate: float, norm: float) -> None:
        """One step is over."""
        self.steps += 1
        self.loss += loss
        self.rate, self.norm = rate, norm

    def row(self, state: RunState, progress: float) -> Row:
        """The means since the last call. `loss` is over all workers, the other metrics are this worker's own.

        `data_seconds` and `checkpoint_seconds` are sums over the interval; what a checkpoint took stands in the row
        after it.
        """
        spent = max(time.monotonic() - self.began, 1e-9)
        row = {
            "step": float(state.step),
            "progress": progress,
            "loss": self.loss / self.steps,
            "learning_rate": self.rate,
            "gradient_norm": self.norm,
            "skipped_steps": float(state.skipped),
            "requests_per_second": self.steps * self.batch_requests / spent,
            "elapsed_seconds": state.elapsed_seconds,
            **{f"{what}_seconds": seconds for what, seconds in self.spent.items()},
            **{key: float(value) / self.requests for key, value in self.sums.items()},
            **self.noted,
        }
        self._reset()
        return row
