"""Embedders turn catalogue items into content vectors.

Shapes: N items, E features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import torch

from adbeam.errors import UserError


class Embedder(Protocol):
    """What tokenization and online inserts need of an embedder."""

    @property
    def dimensions(self) -> int:
        """E of what `embed` returns."""

    def fit(self, sample: pa.Table, *, seed: int) -> None:
        """Learn from a sample of the catalogue; a pretrained model has nothing to learn."""

    def embed(self, items: pa.Table) -> np.ndarray:
        """float32 [N, E], L2-normalised; a row of zeros or NaN means that the item has nothing to embed."""

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """(settings for JSON, tensors for safetensors): all that `from_state` needs."""

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """The fitted embedder again."""


def field_texts(items: pa.Table, fields: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The text of each item, one string a field, empty where it is null; raises UserError on an unknown column."""
    missing = [name for name in fields if name not in items.column_names]
    if missing:
        raise UserError(
            f"the catalogue has no column {missing[0]!r}",
            field="tokens.embedder.text_fields",
            value=list(fields),
            remedy=f"choose from {', '.join(items.column_names)}",
        )
    columns = [items.column(name).cast(pa.string()).fill_null("").to_pylist() for name in fields]
    return list(zip(*columns, strict=True))


def normalise(x_NE: np.ndarray) -> np.ndarray:
    """float32 [N, E]: rows of length 1; a row of zeros stays zero."""
    length_N1 = np.linalg.norm(x_NE, axis=1, keepdims=True)
    unit_NE = np.zeros_like(x_NE, np.float32)
    np.divide(x_NE, length_N1, out=unit_NE, where=length_N1 > 0)
    return unit_NE
