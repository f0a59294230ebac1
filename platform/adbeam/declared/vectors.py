"""Dense vectors as codes: cut into equal parts, each part the nearest of its centres.

Product quantization (Jegou et al. 2011). Numpy only.

Shapes: n vectors, P parts, C centres of a part, E dimensions of a part.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 20
MOST_FITTED = 20_000
"""Vectors that the centres are fitted on; of more an even share."""
_SEED = 0
_PART = 4096
"""Vectors that are held against all centres at once: bounds the memory."""


def fit_centres(x_nD: np.ndarray, parts: int, centres: int) -> np.ndarray:
    """float64 [P, C, E] by Lloyd's k-means; of fewer different vectors than centres the rest repeat. The same vectors
    in the same order give the same centres."""
    x_nPE = x_nD[:: 1 + len(x_nD) // MOST_FITTED].reshape(-1, parts, x_nD.shape[1] // parts)
    return np.stack([_fitted(x_nPE[:, part], centres, np.random.default_rng((_SEED, part))) for part in range(parts)])


def nearest(x_nD: np.ndarray, centre_PCE: np.ndarray) -> np.ndarray:
    """int32 [n, P], the nearest centre of each part, of equally near ones the first."""
    x_nPE = x_nD.reshape(len(x_nD), len(centre_PCE), -1)
    return np.stack([_nearest(x_nPE[:, part], centre_CE) for part, centre_CE in enumerate(centre_PCE)], 1)


def _nearest(x_nE: np.ndarray, centre_CE: np.ndarray) -> np.ndarray:
    found = np.zeros(len(x_nE), dtype=np.int32)
    half_C = 0.5 * (centre_CE**2).sum(1)
    for start in range(0, len(x_nE), _PART):
        found[start : start + _PART] = np.argmin(half_C - x_nE[start : start + _PART] @ centre_CE.T, axis=1)
    return found


def _fitted(x_nE: np.ndarray, centres: int, rng: np.random.Generator) -> np.ndarray:
    distinct = np.unique(x_nE, axis=0)
    centre_CE = distinct[rng.permutation(len(distinct))[np.arange(centres) % len(distinct)]]
    for _ in range(ROUNDS):
        of_n = _nearest(x_nE, centre_CE)
        count_C = np.bincount(of_n, minlength=centres)
        total_CE = np.zeros_like(centre_CE)
        np.add.at(total_CE, of_n, x_nE)
        moved_CE = np.where(count_C[:, None] > 0, total_CE / np.maximum(count_C, 1)[:, None], centre_CE)
        if np.array_equal(moved_CE, centre_CE):
            break
        centre_CE = moved_CE
    return np.round(centre_CE, 6)
