"""Balanced k-means for codebooks: no code empty, no cell above a bound, and a plain rule for vectors never seen.

faiss places the centroids. Then every code gets a price, and a vector goes to the code with the least
||x - c||^2 + price: a power diagram, which is the form of every optimal capacity-bound assignment. Prices are set by an
ascending auction: a cell above its capacity raises its price until the surplus, the vectors with the smallest margin to
their second choice, has left. A code nobody chose moves onto the vector that is worst served in the largest cell.
A new vector is encoded by the same rule, so assignment streams over any catalogue.

Shapes: N distinct vectors, V codes, E features.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np

from adbeam.tokens.quantizers.cheapest_code import cheapest, two_cheapest

AUCTION_PASSES = 400
PATIENCE = 16
"""Auction passes after which the least used codes move into the cells that are still too large."""
CAPACITY_SLACK = 0.8
"""Inner rounds aim at this part of the allowed excess, so that the last auction ends inside the bound."""


@dataclass(frozen=True)
class Codebook:
    """V codes: where they lie and what they cost beyond distance."""

    centroid_VE: np.ndarray
    price_V: np.ndarray


def balanced_kmeans(
    x_NE: np.ndarray, codes: int, *, bound: float, iterations: int, rounds: int, seed: int
) -> tuple[Codebook, np.ndarray]:
    """(codebook, code [N]) with every cell between 1 and floor(bound * N / codes) vectors.

    `x_NE` holds distinct vectors, at least two a code (with one a code or fewer there is nothing to cluster).
    """
    if codes > 1 and len(x_NE) < 2 * codes:
        raise ValueError(f"{codes} codes need {2 * codes} distinct vectors, got {len(x_NE)}")
    centroid_VE = kmeans(x_NE, codes, iterations=iterations, seed=seed)
    price_V = np.zeros(codes, np.float64)
    mean = len(x_NE) / codes
    inner = max(_ceil(mean), int(mean * (1 + CAPACITY_SLACK * (bound - 1))))
    for _ in range(rounds):
        _split_largest_cells(x_NE, centroid_VE)
    for _ in range(rounds):
        code_N = _auction(x_NE, centroid_VE, price_V, inner, passes=PATIENCE)
        centroid_VE = cell_means(x_NE, code_N, centroid_VE)
    capacity = max(_ceil(mean), int(mean * bound))
    code_N = _auction(x_NE, centroid_VE, price_V, capacity, passes=AUCTION_PASSES)
    code_N = _place_surplus(x_NE, centroid_VE, code_N, capacity)
    price_V -= price_V.min()
    return Codebook(centroid_VE, price_V.astype(np.float32)), code_N


def kmeans(x_NE: np.ndarray, codes: int, *, iterations: int, seed: int) -> np.ndarray:
    """float32 [V, E]: faiss's k-means centroids."""
    if codes == 1:
        mean_1E: np.ndarray = x_NE.mean(axis=0, keepdims=True, dtype=np.float64)
        return mean_1E.astype(np.float32)
    clustering = faiss.Kmeans(
        x_NE.shape[1], codes, niter=iterations, seed=seed + 1, min_points_per_centroid=1, max_points_per_centroid=256
    )
    clustering.train(np.ascontiguousarray(x_NE, np.float32))
    return np.array(clustering.centroids, np.float32)


def cell_means(x_NE: np.ndarray, code_N: np.ndarray, centroid_VE: np.ndarray) -> np.ndarray:
    """float32 [V, E]: the mean of each cell; an empty cell keeps its centroid."""
    order_N = np.argsort(code_N, kind="stable")
    count_V = np.bincount(code_N, minlength=len(centroid_VE))
    used_V = np.flatnonzero(count_V)
    start_V = np.cumsum(count_V) - count_V
    sum_VE = np.add.reduceat(x_NE[order_N], start_V[used_V], axis=0, dtype=np.float64)
    mean_VE = centroid_VE.copy()
    mean_VE[used_V] = sum_VE / count_V[used_V, None]
    return mean_VE


def _auction(
    x_NE: np.ndarray, centroid_VE: np.ndarray, price_V: np.ndarray, capacity: int, *, passes: int
) -> np.ndarray:
    """Raise `price_V` (in place) until no cell is above `capacity`, moving empty codes (`centroid_VE`, in place)."""
    for number in range(1, passes + 1):
        code_N, cost_N, margin_N = two_cheapest(x_NE, centroid_VE, price_V)
        count_V = np.bincount(code_N, minlength=len(centroid_VE))
        if count_V.max() <= capacity and count_V.min() > 0:
            return code_N
        _raise_prices(price_V, code_N, margin_N, count_V, capacity, _ceil(len(x_NE) / len(centroid_VE)))
        idle = np.flatnonzero(count_V == 0)
        if number % PATIENCE == 0 and not len(idle):
            idle = np.argsort(count_V, kind="stable")[: max(1, int((count_V > capacity).sum()) // 4)]
        _move_codes(x_NE, centroid_VE, price_V, code_N, cost_N, count_V, idle)
    return two_cheapest(x_NE, centroid_VE, price_V)[0]


def _split_largest_cells(x_NE: np.ndarray, centroid_VE: np.ndarray) -> None:
    """Take the codes of the smallest cells and put them into the largest, where one code does the work of several."""
    code_N = cheapest(x_NE, centroid_VE, np.zeros(len(centroid_VE)))
    count_V = np.bincount(code_N, minlength=len(centroid_VE))
    mean = len(x_NE) / len(centroid_VE)
    wanted_V = np.maximum(np.rint(count_V / mean).astype(int) - 1, 0)
    wanting = np.repeat(np.argsort(-count_V, kind="stable"), np.sort(wanted_V)[::-1])
    spare = [code for code in np.argsort(count_V, kind="stable") if count_V[code] < mean / 2][: len(wanting)]
    if not spare:
        return
    order_N = np.argsort(code_N, kind="stable")
    start_V = np.cumsum(count_V) - count_V
    for rank, (code, donor) in enumerate(zip(spare, wanting, strict=False)):
        within = (rank * 0.6180339887 % 1.0) * count_V[donor]
        centroid_VE[code] = x_NE[order_N[start_V[donor] + int(within)]]
    for _ in range(3):
        code_N = cheapest(x_NE, centroid_VE, np.zeros(len(centroid_VE)))
        centroid_VE[:] = cell_means(x_NE, code_N, centroid_VE)


def _raise_prices(
    price_V: np.ndarray, code_N: np.ndarray, margin_N: np.ndarray, count_V: np.ndarray, capacity: int, target: int
) -> None:
    order_N = np.lexsort((margin_N, code_N))
    start_V = np.cumsum(count_V) - count_V
    for code in np.flatnonzero(count_V > capacity):
        margins = margin_N[order_N[start_V[code] : start_V[code] + count_V[code]]]
        surplus = count_V[code] - target
        # Half-way between the last that must leave and the first that may stay, so that rounding decides nothing.
        price_V[code] += (float(margins[surplus - 1]) + float(margins[surplus])) / 2 + 1e-7


def _move_codes(
    x_NE: np.ndarray,
    centroid_VE: np.ndarray,
    price_V: np.ndarray,
    code_N: np.ndarray,
    cost_N: np.ndarray,
    count_V: np.ndarray,
    idle: np.ndarray,
) -> None:
    """Put each idle code onto the worst-served vector of one of the largest cells, at that cell's price."""
    if not len(idle):
        return
    distance_N = cost_N - price_V[code_N] + np.square(x_NE).sum(axis=1)
    order_N = np.lexsort((-distance_N, code_N))
    start_V = np.cumsum(count_V) - count_V
    donors = np.argsort(-count_V, kind="stable")
    donors = donors[(count_V[donors] > 1) & ~np.isin(donors, idle)]
    for rank, code in enumerate(idle):
        donor = donors[rank % len(donors)]
        taken = order_N[start_V[donor] + min(rank // len(donors), count_V[donor] - 1)]
        centroid_VE[code] = x_NE[taken]
        price_V[code] = price_V[donor]


def _place_surplus(x_NE: np.ndarray, centroid_VE: np.ndarray, code_N: np.ndarray, capacity: int) -> np.ndarray:
    """Move what ties left above capacity (or a code without a vector) to the nearest cell with room."""
    code_N = code_N.copy()
    count_V = np.bincount(code_N, minlength=len(centroid_VE))
    for code in np.flatnonzero(count_V == 0):
        donors_N = count_V[code_N] > 1
        distance_N = np.where(donors_N, np.square(x_NE - centroid_VE[code]).sum(axis=1), np.inf)
        _move(code_N, count_V, int(distance_N.argmin()), int(code))
    for code in np.flatnonzero(count_V > capacity):
        members = np.flatnonzero(code_N == code)
        far = members[np.argsort(-np.square(x_NE[members] - centroid_VE[code]).sum(axis=1), kind="stable")]
        for vector in far[: count_V[code] - capacity]:
            distance_V = np.square(centroid_VE - x_NE[vector]).sum(axis=1)
            distance_V[count_V >= capacity] = np.inf
            _move(code_N, count_V, int(vector), int(distance_V.argmin()))
    return code_N


def _move(code_N: np.ndarray, count_V: np.ndarray, vector: int, code: int) -> None:
    count_V[code_N[vector]] -= 1
    count_V[code] += 1
    code_N[vector] = code


def _ceil(value: float) -> int:
    return int(np.ceil(value))
