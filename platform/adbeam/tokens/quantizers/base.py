"""Quantizers turn vectors into codes: what every one of them offers.

Shapes: N vectors, E features, T SID levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
import torch


class Quantizer(Protocol):
    """What tokenization, export and online inserts need of a quantizer."""

    def fit(self, x_NE: np.ndarray) -> None:
        """Learn the codebooks from a sample of vectors (duplicates are dropped)."""

    def encode(self, x_NE: np.ndarray, business_N: np.ndarray | None) -> np.ndarray:
        """int32 [N, T]: the SID of each vector; `business_N` are the uint64 hashes of the last level, if it has one."""

    def reconstruct(self, sids_NT: np.ndarray) -> np.ndarray:
        """float32 [N, E]: what the vector-quantized levels say about each item."""

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """(settings for JSON, tensors for safetensors): all that `from_state` needs."""

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """The fitted quantizer again."""
