"""RQ-KMeans: `RQKMeans` is GR4AD's MGMR RQ-KMeans (1.2.2).

Residual quantization: r_0 = x, code_l = argmin_v ||r_l - c_v||^2 + price_v, r_(l+1) = r_l - c_(code_l).
MR is nothing but codebooks of falling size; MG replaces the last codebook by a hash of business fields.

Shapes: N vectors, V codes of a level, E features, T SID levels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch

from adbeam.errors import UserError
from adbeam.tokens.config import QuantizerConfig
from adbeam.tokens.quantizers.balanced import Codebook, balanced_kmeans, kmeans
from adbeam.tokens.quantizers.cheapest_code import cheapest

log = logging.getLogger(__name__)


class RQKMeans:
    """Residual k-means with balanced levels, any codebook sizes, and an optional hashed last level."""

    method = "rq_kmeans"

    def __init__(self, codebooks: Sequence[int], config: QuantizerConfig, *, seed: int = 0) -> None:
        if config.hashed_last_level and len(codebooks) < 2:
            raise UserError(
                "a hashed last level needs a codebook before it",
                field="model.codebooks",
                value=list(codebooks),
                remedy="give two sizes or more, or set tokens.quantizer.hashed_last_level to false",
            )
        self.codebooks = tuple(int(size) for size in codebooks)
        self.config = config
        self.seed = seed
        self.levels: list[Codebook] = []

    @property
    def vector_levels(self) -> int:
        """Levels that have a codebook: all but a hashed last one."""
        return len(self.codebooks) - int(self.config.hashed_last_level)

    @property
    def fitted_sizes(self) -> list[int]:
        """Codes each codebook really has; below `codebooks` where a small catalogue made it shrink."""
        return [len(level.centroid_VE) for level in self.levels]

    def fit(self, x_NE: np.ndarray) -> None:
        """Fit every codebook on distinct vectors (a sample of them); raises UserError when there are too few."""
        residual_NE = sample_rows(distinct(x_NE), self._sample_size(), self.seed)
        self.levels = []
        for level in range(self.vector_levels):
            residual_NE = distinct(residual_NE)
            codes = self._codes(level, len(residual_NE))
            codebook = self._fit_level(residual_NE, codes, seed=self.seed + level)
            self.levels.append(codebook)
            residual_NE = residual_NE - codebook.centroid_VE[_assign(residual_NE, codebook)]

    def encode(self, x_NE: np.ndarray, business_N: np.ndarray | None) -> np.ndarray:
        """int32 [N, T]: the SID of each vector."""
        sids_NT = np.empty((len(x_NE), len(self.codebooks)), np.int32)
        for start in range(0, len(x_NE), self.config.batch_vectors):
            rows = slice(start, start + self.config.batch_vectors)
            residual_BE = np.array(x_NE[rows], np.float32)
            for level, codebook in enumerate(self.levels):
                sids_NT[rows, level] = code_B = _assign(residual_BE, codebook)
                residual_BE -= codebook.centroid_VE[code_B]
        if self.config.hashed_last_level:
            if business_N is None:
                raise ValueError("a hashed last level needs the business hashes")
            sids_NT[:, -1] = business_N % np.uint64(self.codebooks[-1])
        return sids_NT

    def reconstruct(self, sids_NT: np.ndarray) -> np.ndarray:
        """float32 [N, E]: the sum of the chosen centroids."""
        total_NE = np.zeros((len(sids_NT), self.levels[0].centroid_VE.shape[1]), np.float32)
        for level, codebook in enumerate(self.levels):
            total_NE += codebook.centroid_VE[sids_NT[:, level]]
        return total_NE

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Settings and tensors `level_l` [V, E], `price_l` [V]."""
        tensors = {}
        for level, codebook in enumerate(self.levels):
            tensors[f"level_{level}"] = torch.from_numpy(codebook.centroid_VE)
            tensors[f"price_{level}"] = torch.from_numpy(codebook.price_V)
        settings = {
            "method": self.method,
            "codebooks": list(self.codebooks),
            "fitted_sizes": self.fitted_sizes,
            "seed": self.seed,
            "config": self.config.model_dump(mode="json"),
        }
        return settings, tensors

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Self:
        """The fitted quantizer again."""
        config = QuantizerConfig.parse(settings["config"], source="quantizer settings")
        quantizer = cls(settings["codebooks"], config, seed=settings["seed"])
        quantizer.levels = [
            Codebook(_numpy(tensors[f"level_{level}"]), _numpy(tensors[f"price_{level}"]))
            for level in range(quantizer.vector_levels)
        ]
        return quantizer

    def _sample_size(self) -> int:
        return self.config.sample_vectors_per_code * max(self.codebooks[: self.vector_levels])

    def _codes(self, level: int, vectors: int) -> int:
        """How many codes a level may have: each needs `vectors_per_code` distinct vectors."""
        wanted, supported = self.codebooks[level], max(1, vectors // self.config.vectors_per_code)
        if wanted <= supported:
            return wanted
        if not self.config.shrink_codebooks:
            raise UserError(
                f"level {level} has {wanted} codes but only {vectors} distinct vectors to fit them on",
                field="model.codebooks",
                value=list(self.codebooks),
                remedy=f"choose at most {supported}, or set tokens.quantizer.shrink_codebooks to true",
            )
        log.warning("level %d: %d of %d codes fitted, for %d distinct vectors", level, supported, wanted, vectors)
        return supported

    def _fit_level(self, residual_NE: np.ndarray, codes: int, *, seed: int) -> Codebook:
        config = self.config
        if codes == 1 or not config.balanced:
            centroid_VE = kmeans(residual_NE, codes, iterations=config.kmeans_iterations, seed=seed)
            return Codebook(centroid_VE, np.zeros(codes, np.float32))
        return balanced_kmeans(
            residual_NE,
            codes,
            bound=config.largest_cell_over_mean,
            iterations=config.kmeans_iterations,
            rounds=config.balance_rounds,
            seed=seed,
        )[0]


def distinct(x_NE: np.ndarray) -> np.ndarray:
    """float32: the distinct rows, in order of first occurrence."""
    rows_N = np.ascontiguousarray(x_NE, np.float32) + np.float32(0)  # -0.0 becomes 0.0: equal numbers, equal bytes
    keys_N = rows_N.view(np.dtype((np.void, rows_N.dtype.itemsize * rows_N.shape[1]))).ravel()
    return rows_N[np.sort(np.unique(keys_N, return_index=True)[1])]


def sample_rows(x_NE: np.ndarray, size: int, seed: int) -> np.ndarray:
    """`size` rows drawn evenly, in order; all of them where there are no more."""
    if len(x_NE) <= size:
        return x_NE
    return x_NE[np.sort(np.random.default_rng(seed).choice(len(x_NE), size, replace=False))]


def _assign(x_NE: np.ndarray, codebook: Codebook) -> np.ndarray:
    return cheapest(x_NE, codebook.centroid_VE, codebook.price_V)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)
