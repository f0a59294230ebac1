"""w_user of VSL's sample weight w = w_user * w_behavior (GR4AD 1.5). Numpy only: weights are made when samples are."""

from __future__ import annotations

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
