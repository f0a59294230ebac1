"""Averaged weights: the running mean of a model's weights over its steps, which is what is judged and published.

    mean <- d mean + (1 - d) weights,  d = min(decay, t / (t + 10)) after step t

A young mean follows the weights closely: the first steps are not worth keeping. Rank 0 alone keeps one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

YOUNG_STEPS = 10


class WeightAverage:
    """The mean of one run, in float32; `mean` is part of its checkpoints."""

    def __init__(self, decay: float, module: nn.Module, mean: Mapping[str, Tensor] | None = None) -> None:
        """`mean` is that of the checkpoint which the run goes on from."""
        self.decay = decay
        source = dict(module.named_parameters()) if mean is None else mean
        self.mean = {name: _float(value).clone() for name, value in source.items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step` (from 1)."""
        decay = min(self.decay, step / (step + YOUNG_STEPS))
        for name, value in module.named_parameters():
            held = self.mean[name]
            held.lerp_(_float(value).to(held.device), 1 - decay)


def _float(value: Tensor) -> Tensor:
    return value.detach().float()
