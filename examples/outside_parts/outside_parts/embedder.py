"""An embedder: how often each pair of letters stands in an item's text."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch

from adbeam.tokens.config import EmbedderConfig
from adbeam.tokens.embedders.base import field_texts, normalise


class LetterEmbedder:
    """Pairs of letters hashed into `dimensions` columns, each with a weight that is learnt from a sample."""

    kind = "letters"  # the name in YAML and in bundles

    def __init__(self, config: EmbedderConfig) -> None:
        self.config = config
        self.weight_E = np.ones(config.dimensions, np.float32)

    @property
    def dimensions(self) -> int:
        """E."""
        return self.config.dimensions

    def fit(self, sample: pa.Table, *, seed: int) -> None:
        """Frequent pairs say little."""
        self.weight_E = 1 / np.sqrt(1 + self._counts(sample).mean(0))

    def embed(self, items: pa.Table) -> np.ndarray:
        """float32 [N, E] of length 1; zeros where there is no text."""
        return normalise((self._counts(items) * self.weight_E).astype(np.float32))

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What bundles carry."""
        weights = {"weight": torch.from_numpy(self.weight_E.astype(np.float32))}
        return {"kind": self.kind, "config": self.config.model_dump(mode="json")}, weights

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """The fitted embedder again."""
        embedder = cls(EmbedderConfig.parse(settings["config"], source="embedder settings"))
        embedder.weight_E = tensors["weight"].numpy()
        return embedder

    def _counts(self, items: pa.Table) -> np.ndarray:
        counts_NE = np.zeros((items.num_rows, self.dimensions), np.float32)
        for row, texts in enumerate(field_texts(items, self.config.text_fields)):
            for text in texts:
                for pair in pairwise(text):
                    counts_NE[row, hash_of(pair) % self.dimensions] += 1
        return counts_NE


def hash_of(pair: tuple[str, str]) -> int:
    """The same in every process, which Python's own hash of text is not."""
    return ord(pair[0]) * 8191 + ord(pair[1])
