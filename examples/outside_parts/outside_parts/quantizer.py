"""A quantizer: every code is the signs of some random projections (locality-sensitive hashing)."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch

from adbeam.tokens.config import QuantizerConfig


class SignQuantizer:
    """log2(V) projections a level; the last level is the hash of business fields where the settings say so."""

    method = "signs"  # the name in YAML and in bundles

    def __init__(self, codebooks: Sequence[int], config: QuantizerConfig, *, seed: int = 0) -> None:
        self.codebooks, self.config, self.seed = tuple(codebooks), config, seed
        self.levels_EP: list[np.ndarray] = []

    @property
    def vector_levels(self) -> int:
        """Levels made of vectors."""
        return len(self.codebooks) - int(self.config.hashed_last_level)

    def fit(self, x_NE: np.ndarray) -> None:
        """Projections are drawn, not learnt."""
        random = np.random.default_rng(self.seed)
        bits = [int(np.log2(size)) for size in self.codebooks[: self.vector_levels]]
        self.levels_EP = [random.normal(size=(x_NE.shape[1], count)).astype(np.float32) for count in bits]

    def encode(self, x_NE: np.ndarray, business_N: np.ndarray | None) -> np.ndarray:
        """int32 [N, T]."""
        sids_NT = np.zeros((len(x_NE), len(self.codebooks)), np.int32)
        for level, level_EP in enumerate(self.levels_EP):
            sids_NT[:, level] = (x_NE @ level_EP > 0) @ (1 << np.arange(level_EP.shape[1]))
        if business_N is not None:
            sids_NT[:, -1] = business_N % np.uint64(self.codebooks[-1])
        return sids_NT

    def reconstruct(self, sids_NT: np.ndarray) -> np.ndarray:
        """float32 [N, E]: the sum of the directions whose signs the codes hold."""
        total_NE = np.zeros((len(sids_NT), len(self.levels_EP[0])), np.float32)
        for level, level_EP in enumerate(self.levels_EP):
            bit_NP = (sids_NT[:, level, None] >> np.arange(level_EP.shape[1])) & 1
            total_NE += (2 * bit_NP - 1).astype(np.float32) @ level_EP.T / level_EP.shape[0]
        return total_NE

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What bundles carry. `fitted_sizes` are the codes of each level that is made of vectors."""
        sizes = [1 << level_EP.shape[1] for level_EP in self.levels_EP]
        settings = {"method": self.method, "codebooks": list(self.codebooks), "fitted_sizes": sizes, "seed": self.seed}
        tensors = {f"level_{level}": torch.from_numpy(level_EP) for level, level_EP in enumerate(self.levels_EP)}
        return {**settings, "config": self.config.model_dump(mode="json")}, tensors

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """The quantizer again."""
        config = QuantizerConfig.parse(settings["config"], source="quantizer settings")
        quantizer = cls(settings["codebooks"], config, seed=settings["seed"])
        quantizer.levels_EP = [tensors[f"level_{level}"].numpy() for level in range(quantizer.vector_levels)]
        return quantizer
