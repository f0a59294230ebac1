"""The arrays a model reads, and nothing else: what crosses between features, training, decoding and serving.

Shapes: B contexts, S context length, T SID levels, F static features, C token features, P prefixes of one context,
M targets of one prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class ContextBatch:
    """What is known about B requests before any ad is generated."""

    static_BF: Tensor
    """int64, categorical features of the user and the request (model/features.py gives the vocabulary sizes)."""
    code_BST: Tensor
    """int64, SID codes of the history tokens; -1 where there is no token."""
    feature_BSC: Tensor
    """int64, categorical features of each token: pathway, action, kind, recency, count and value buckets."""
    mask_BS: Tensor
    """bool, true where there is a token."""

    @property
    def size(self) -> int:
        """B."""
        return self.static_BF.shape[0]

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


@dataclass(frozen=True)
class TrainBatch:
    """Contexts with the items that followed them. A target of weight 0 is padding."""

    context: ContextBatch
    visible_BP: Tensor
    """int64, how many of the context's tokens prefix p may see; S means all (one request a context: P = 1)."""
    code_BPMT: Tensor
    """int64, SID codes of the targets; any valid code where the weight is 0."""
    bucket_BPM: Tensor
    """int64, eCPM bucket of the targets; -1 where the value is unknown."""
    weight_BPM: Tensor
    """float32, w = w_user * w_behavior (GR4AD 1.5)."""

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
