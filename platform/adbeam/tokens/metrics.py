"""How good a set of SIDs is: collision, compression, utilisation (GR4AD App. A.3; GPR Table 1).

Shapes: N items, T SID levels, V codes of a level, E features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def sid_groups(sids_NT: np.ndarray) -> np.ndarray:
    """int64 [N]: the number of the SID of each item, counted from 0 in order of code; equal SIDs, equal numbers."""
    group_N = np.zeros(len(sids_NT), np.int64)
    for code_N in sids_NT.T:
        group_N = np.unique(group_N * (int(code_N.max(initial=0)) + 1) + code_N, return_inverse=True)[1]
    return group_N


def sid_quality(sids_NT: np.ndarray, codebooks: Sequence[int]) -> dict[str, Any]:
    """Cpr, Col, Util and what each level adds.

    `cpr` = items / occupied SIDs; `col` = occupied SIDs with several items / occupied SIDs (GR4AD: the denominator is
    SIDs, not items); `util` = occupied SIDs / code space; `item_collision` = items that share their SID / items (GPR).
    """
    count_S = np.bincount(sid_groups(sids_NT))
    occupied = max(len(count_S), 1)
    return {
        "items": len(sids_NT),
        "occupied_sids": len(count_S),
        "code_space": math.prod(int(size) for size in codebooks),
        "cpr": len(sids_NT) / occupied,
        "col": float((count_S > 1).sum() / occupied),
        "util": len(count_S) / math.prod(int(size) for size in codebooks),
        "item_collision": float(count_S[count_S > 1].sum() / max(len(sids_NT), 1)),
        "largest_sid": int(count_S.max(initial=0)),
        "levels": [level_quality(sids_NT[:, level], size) for level, size in enumerate(codebooks)],
    }


def level_quality(code_N: np.ndarray, codes: int) -> dict[str, Any]:
    """Use of one level: share of codes in use, perplexity (effective number of codes), largest cell over the mean."""
    count_V = np.bincount(code_N, minlength=codes)
    share_V = count_V[count_V > 0] / max(count_V.sum(), 1)
    return {
        "codes": codes,
        "used": int((count_V > 0).sum()),
        "utilisation": float((count_V > 0).mean()),
        "perplexity": float(np.exp(-(share_V * np.log(share_V)).sum())),
        "largest_cell_over_mean": float(count_V.max() / max(count_V.mean(), 1e-12)),
    }


def path_similarity(x_NE: np.ndarray, sids_NT: np.ndarray) -> float | None:
    """PAS (GPR Table 1): mean cosine of the items that share a full SID, averaged over such SIDs; None without any."""
    unit_NE = x_NE / np.maximum(np.linalg.norm(x_NE, axis=1, keepdims=True), 1e-12)
    group_N = sid_groups(sids_NT)
    count_S = np.bincount(group_N)
    shared_N = count_S[group_N] > 1
    if not shared_N.any():
        return None
    number_N = np.unique(group_N[shared_N], return_inverse=True)[1]
    size_S = np.bincount(number_N)
    sum_SE = np.zeros((len(size_S), x_NE.shape[1]))
    np.add.at(sum_SE, number_N, unit_NE[shared_N])
    # The sum over pairs of u_i.u_j is (||sum u||^2 - n) / 2.
    return float(((np.square(sum_SE).sum(axis=1) - size_S) / (size_S * (size_S - 1))).mean())


def items_per_sid(sids_NT: np.ndarray) -> dict[int, int]:
    """{items on a SID: number of such SIDs}."""
    sizes, numbers = np.unique(np.bincount(sid_groups(sids_NT)), return_counts=True)
    return {int(size): int(number) for size, number in zip(sizes, numbers, strict=True)}
