"""The inner loop of tokenization: the cheapest code of every vector.

Shapes: N vectors, V codes, E features. The cost of code v for vector x is ||x - c_v||^2 + price_v; ||x||^2 is the same
for all codes and left out, so what is compared is price_v + ||c_v||^2 - 2 x.c_v.
"""

from __future__ import annotations

import numpy as np

BLOCK_BYTES = 4 << 20
"""Size of a block of the cost matrix: it should stay in the cache of a core between the product and the argmin."""


def cheapest(x_NE: np.ndarray, centroid_VE: np.ndarray, price_V: np.ndarray) -> np.ndarray:
    """int32 [N]: the cheapest code of each vector; the lowest code wins a tie."""
    weight_EV, offset_V = _prepare(centroid_VE, price_V)
    code_N = np.empty(len(x_NE), np.int32)
    for rows in _blocks(len(x_NE), len(centroid_VE)):
        cost_BV = x_NE[rows] @ weight_EV
        cost_BV += offset_V
        code_N[rows] = cost_BV.argmin(axis=1)
    return code_N


def two_cheapest(
    x_NE: np.ndarray, centroid_VE: np.ndarray, price_V: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(code [N], cost [N], margin [N]): the cheapest code, its cost less ||x||^2, how much dearer the next is."""
    weight_EV, offset_V = _prepare(centroid_VE, price_V)
    code_N = np.empty(len(x_NE), np.int32)
    cost_N = np.empty(len(x_NE), np.float32)
    margin_N = np.full(len(x_NE), np.inf, np.float32)
    for rows in _blocks(len(x_NE), len(centroid_VE)):
        cost_BV = x_NE[rows] @ weight_EV
        cost_BV += offset_V
        every = np.arange(len(cost_BV))
        code_N[rows] = best_B = cost_BV.argmin(axis=1)
        cost_N[rows] = cost_BV[every, best_B]
        if len(centroid_VE) > 1:
            cost_BV[every, best_B] = np.inf
            margin_N[rows] = cost_BV.min(axis=1) - cost_N[rows]
    return code_N, cost_N, margin_N


def _prepare(centroid_VE: np.ndarray, price_V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weight_EV = np.ascontiguousarray(centroid_VE.T, np.float32) * np.float32(-2)
    offset_V = (np.square(centroid_VE, dtype=np.float64).sum(axis=1) + price_V).astype(np.float32)
    return weight_EV, offset_V


def _blocks(vectors: int, codes: int) -> list[slice]:
    step = max(1, BLOCK_BYTES // (4 * codes))
    return [slice(start, start + step) for start in range(0, vectors, step)]
