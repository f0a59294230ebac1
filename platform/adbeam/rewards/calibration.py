"""Calibration of probabilities: Platt scaling and a monotone curve, with weights; ECE, deciles, AUC. Numpy only.

Shapes: B exposures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

STEPS = 50
BINS = 20
PRIOR_POSITIVES = 2.0
RIDGE = 1e-3


def logit(probability_B: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)), finite."""
    p = np.clip(np.asarray(probability_B, dtype=np.float64), 1e-9, 1 - 1e-9)
    return np.log(p) - np.log1p(-p)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=np.float64)))


def fit_platt(probability_B: np.ndarray, label_B: np.ndarray, weight_B: np.ndarray) -> tuple[float, float]:
    """(a, b) of p' = sigmoid(a logit(p) + b) that maximise the weighted likelihood, by Newton's method.

    (1, 0) where one class is missing. Weights of sampled negatives undo the sampling here.
    """
    label_B = np.asarray(label_B, dtype=np.float64)
    positive = float((weight_B * label_B).sum())
    negative = float((weight_B * (1 - label_B)).sum())
    if positive <= 0 or negative <= 0:
        return 1.0, 0.0
    x_B = logit(probability_B)
    weight_B = weight_B / weight_B.sum()
    theta = np.array([1.0, np.log(positive / negative) - np.average(x_B, weights=weight_B)])
    design_B2 = np.stack([x_B, np.ones_like(x_B)], 1)
    prior = np.array([1.0, theta[1]])
    ridge = RIDGE * min(positive, negative) / (positive + negative)
    for _ in range(STEPS):
        p_B = sigmoid(design_B2 @ theta)
        gradient = design_B2.T @ (weight_B * (p_B - label_B)) + ridge * (theta - prior)
        curvature = (design_B2 * (weight_B * p_B * (1 - p_B))[:, None]).T @ design_B2 + ridge * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        theta = theta - step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-10:
            break
    return float(theta[0]), float(theta[1])


def fit_curve(probability_B: np.ndarray, label_B: np.ndarray, weight_B: np.ndarray) -> tuple[list[float], list[float]]:
    """(logits of predictions, logits of what was observed there) of up to BINS bins, both rising.

    What a straight line in logits cannot bend. Half of the bins divide the weight, half the positives: most of these
    lie among the highest predictions, where a bin of the weight alone would hold very different ones. Neighbouring bins
    that fall are pooled (isotonic regression); a bin is drawn towards its own prediction by PRIOR_POSITIVES, so that an
    empty one says nothing.
    """
    positive_B = weight_B * label_B
    mass_B = weight_B / max(float(weight_B.sum()), 1e-12) + positive_B / max(float(positive_B.sum()), 1e-12)
    rows = reliability(probability_B, label_B, weight_B, BINS, mass_B)
    mean_weight = float(np.mean(weight_B)) if len(weight_B) else 1.0
    pooled: list[list[float]] = []
    for row in rows:
        prior = PRIOR_POSITIVES / max(row["predicted"], 1e-9)
        total = row["weight"] + min(prior, 10 * BINS * mean_weight)
        observed = (row["weight"] * row["observed"] + (total - row["weight"]) * row["predicted"]) / total
        pooled.append([row["predicted"] * row["weight"], observed * row["weight"], row["weight"]])
        while len(pooled) > 1 and pooled[-2][1] / pooled[-2][2] >= pooled[-1][1] / pooled[-1][2]:
            last = pooled.pop()
            pooled[-1] = [a + b for a, b in zip(pooled[-1], last, strict=True)]
    x = logit(np.array([predicted / weight for predicted, _, weight in pooled]))
    y = logit(np.array([observed / weight for _, observed, weight in pooled]))
    return x.tolist(), y.tolist()


def apply_curve(probability_B: np.ndarray, curve: tuple[Sequence[float], Sequence[float]]) -> np.ndarray:
    """Predictions moved along the curve: linear in logits between its points, shifted as at its ends beyond them."""
    x, y = np.asarray(curve[0]), np.asarray(curve[1])
    if not len(x):
        return np.asarray(probability_B, dtype=np.float64)
    at = logit(probability_B)
    return sigmoid(at + np.interp(at, x, y - x))


def reliability(
    probability_B: np.ndarray,
    label_B: np.ndarray,
    weight_B: np.ndarray,
    groups: int = 10,
    mass_B: np.ndarray | None = None,
) -> list[dict[str, float]]:
    """Groups of equal weight (or mass, where given) by rising prediction: {"predicted", "observed", "weight"} of those
    not empty."""
    mass_B = weight_B if mass_B is None else mass_B
    order = np.argsort(probability_B, kind="stable")
    share = np.cumsum(mass_B[order]) / max(float(mass_B.sum()), 1e-12)
    decile = np.minimum((share * groups - 1e-9).astype(int), groups - 1)
    rows = []
    for number in range(groups):
        chosen = order[decile == number]
        weight = float(weight_B[chosen].sum())
        if weight > 0:
            predicted = float((weight_B[chosen] * probability_B[chosen]).sum() / weight)
            observed = float((weight_B[chosen] * label_B[chosen]).sum() / weight)
            rows.append({"predicted": predicted, "observed": observed, "weight": weight})
    return rows


def calibration_error(rows: list[dict[str, float]]) -> float:
    """ECE: mean |predicted - observed| over the deciles, by weight."""
    total = sum(row["weight"] for row in rows)
    return sum(row["weight"] * abs(row["predicted"] - row["observed"]) for row in rows) / max(total, 1e-12)


def auc(score_B: np.ndarray, label_B: np.ndarray, weight_B: np.ndarray) -> float:
    """Weighted area under the ROC curve, ties counted half; NaN where one class is missing."""
    order = np.argsort(score_B, kind="stable")
    score, positive = score_B[order], (weight_B * label_B)[order]
    negative = (weight_B * (1 - label_B))[order]
    _, group = np.unique(score, return_inverse=True)
    positive_G, negative_G = np.bincount(group, positive), np.bincount(group, negative)
    below_G = np.cumsum(negative_G) - negative_G
    total = positive_G.sum() * negative_G.sum()
    return float((positive_G * (below_G + negative_G / 2)).sum() / total) if total > 0 else float("nan")


def report(probability_B: np.ndarray, label_B: np.ndarray, weight_B: np.ndarray) -> dict[str, Any]:
    """AUC, ECE, mean prediction over mean observation, and the deciles they are made of."""
    rows = reliability(probability_B, label_B, weight_B)
    total = max(float(weight_B.sum()), 1e-12)
    observed = float((weight_B * label_B).sum()) / total
    predicted = float((weight_B * probability_B).sum()) / total
    return {
        "exposures": len(label_B),
        "rate": observed,
        "auc": auc(probability_B, label_B, weight_B),
        "ece": calibration_error(rows),
        "predicted_over_observed": predicted / observed if observed > 0 else float("nan"),
        "deciles": rows,
    }
