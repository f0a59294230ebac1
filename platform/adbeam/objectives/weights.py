"""w_user of VSL's sample weight w = w_user * w_behavior (GR4AD 1.5), and omega of prediction heads (GPR eq 3). Numpy
only: weights are made when samples are.

Shapes: U users, B rows, M targets of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adbeam.logs.money import reason_limit


def user_weight(value_U: np.ndarray, low: float = 0.5, high: float = 2.0) -> np.ndarray:
    """w_user [U], float64: a user's long-term ad value against the mean user's, clipped, then mean 1.

    A user beyond reason (`logs.money.MOST_MEDIANS`) is left out of that mean, so that one order in the wrong unit does
    not make all others worth nothing. Users of no value at all (or of a value that is not finite) have `low`. All 1
    where nobody has value.
    """
    value_U = np.nan_to_num(np.asarray(value_U, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if not len(value_U) or value_U.max() <= 0:
        return np.ones(len(value_U))
    mean = value_U[value_U <= reason_limit(value_U)].mean()
    weight_U: np.ndarray = np.clip(value_U / mean, low, high)
    weight_U = weight_U / weight_U.mean()
    return weight_U


def mixed_weights(weight_BM: np.ndarray, head_BM: np.ndarray, mixture: Sequence[float]) -> np.ndarray:
    """float32 [B, M]: weights with which the mean over a row's targets is sum_j omega_j of each head's own mean (GPR
    eq 3). Where a head has no target the others share its omega."""
    real_BM = weight_BM > 0
    count_BH = np.stack([(real_BM & (head_BM == head)).sum(1) for head in range(len(mixture))], axis=1)
    omega_BH = np.asarray(mixture) * (count_BH > 0)
    share_BH = omega_BH / np.maximum(omega_BH.sum(1, keepdims=True), 1e-12) / np.maximum(count_BH, 1)
    each_BM = np.take_along_axis(share_BH, head_BM.astype(np.int64), axis=1) * real_BM.sum(1, keepdims=True)
    mixed_BM: np.ndarray = (weight_BM * each_BM).astype(np.float32)
    return mixed_BM
