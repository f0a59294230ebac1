"""AUC against the truth: with the true probability as a soft label there is no noise of draws, and small scenes can be
judged too.

Shapes: N pairs of a user and an ad.
"""

from __future__ import annotations

import numpy as np


def truth_auc(score_N: np.ndarray, probability_N: np.ndarray) -> float:
    """How likely a score puts what happens above what does not: each two pairs count p_i (1 - p_j), ties by half.

    NaN where nothing, or everything, is sure to happen or there is no pair.
    """
    order = np.argsort(score_N, kind="stable")
    score, yes, no = score_N[order], probability_N[order], 1 - probability_N[order]
    first = np.concatenate([[True], score[1:] != score[:-1]]) if len(score) else np.zeros(0, dtype=bool)
    group = np.cumsum(first) - 1
    yes_g, no_g = np.bincount(group, yes), np.bincount(group, no)
    both_g = np.bincount(group, yes * no)  # a pair is not held against itself
    right = (yes_g * (np.cumsum(no_g) - no_g)).sum() + 0.5 * (yes_g * no_g - both_g).sum()
    total = yes.sum() * no.sum() - (yes * no).sum()
    return float(right / total) if total > 0 else float("nan")


def truth_auc_by(score_N: np.ndarray, probability_N: np.ndarray, scene_N: np.ndarray) -> dict[str, float]:
    """The same by scene, in the order of names."""
    return {
        str(scene): truth_auc(score_N[scene_N == scene], probability_N[scene_N == scene])
        for scene in np.unique(scene_N).tolist()
    }
