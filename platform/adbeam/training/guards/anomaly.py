"""Steps that would spoil a run: a loss or gradient that is no number, a loss that jumps.

All workers judge the same numbers, so they agree. Such a step moves nothing: its gradients are made NaN, and DeepSpeed
drops gradients that are not finite. Too many of them in a row end the run by name.
"""

from __future__ import annotations

import math
from statistics import median

from adbeam.training.config import AnomalyConfig

REMEMBERED = 64
"""Losses that a jump is measured against."""
FEWEST = 16
"""Losses it takes to call one a jump."""


class LossNotFinite(Exception):
    """The loss or the gradient is NaN or infinite, or the loss jumped. All workers raise it together."""


class AnomalyGuard:
    """Judges the steps of a run. `losses` and `skipped` are part of its state, so that a resumed run judges alike."""

    def __init__(self, config: AnomalyConfig, losses: list[float], skipped: int) -> None:
        self.config = config
        self.losses, self.skipped = losses, skipped
        self._in_a_row = 0

    def of_loss(self, step: int, loss: float) -> str | None:
        """What is wrong with the global loss of optimiser step `step` (from 0), if anything.

        Raises LossNotFinite when no further step may be skipped.
        """
        if not math.isfinite(loss):
            return self._skip(f"the loss of step {step + 1} is {loss}")
        jump = self.config.loss_jump
        if jump is None or len(self.losses) < FEWEST or loss <= jump * median(self.losses):
            return None
        usual = median(self.losses)
        return self._skip(f"the loss of step {step + 1} is {loss:.4g}, {loss / usual:.1f} times the usual {usual:.4g}")

    def of_gradient(self, step: int, norm: float) -> str:
        """A gradient norm that is no number; raises LossNotFinite as `of_loss` does."""
        return self._skip(f"the gradient norm of step {step + 1} is {norm}")

    def good(self, loss: float) -> None:
        """A step was taken."""
        self._in_a_row = 0
        self.losses.append(loss)
        del self.losses[:-REMEMBERED]

    def _skip(self, what: str) -> str:
        self._in_a_row += 1
        self.skipped += 1
        if self._in_a_row > self.config.skip_steps:
            raise LossNotFinite(what)
        return what
