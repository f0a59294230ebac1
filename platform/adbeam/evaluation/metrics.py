"""Ranking metrics of one request, and their means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def recall_at(ranked: Sequence[str], targets: Mapping[str, float], k: int) -> float:
    """Share of the targets among the first k: |top k ∩ targets| / |targets|; HR@k when there is one target."""
    return len(set(ranked[:k]) & targets.keys()) / len(targets)


def ndcg_at(ranked: Sequence[str], targets: Mapping[str, float], k: int) -> float:
    """Binary NDCG: DCG of the first k with gain 1 a target, over the best DCG that k places allow."""
    gains = sum(1 / np.log2(place + 2) for place, item in enumerate(ranked[:k]) if item in targets)
    ideal = sum(1 / np.log2(place + 2) for place in range(min(k, len(targets))))
    return float(gains / ideal)


def value_recall_at(ranked: Sequence[str], targets: Mapping[str, float], k: int) -> float:
    """Share of the targets' money among the first k; plain recall when no target brought any."""
    total = sum(targets.values())
    if total <= 0:
        return recall_at(ranked, targets, k)
    return sum(targets[item] for item in set(ranked[:k]) & targets.keys()) / total


def value_ndcg_at(ranked: Sequence[str], targets: Mapping[str, float], k: int) -> float:
    """NDCG whose gain is the target's money."""
    worth = sorted(targets.values(), reverse=True)
    ideal = sum(value / np.log2(place + 2) for place, value in enumerate(worth[:k]))
    if ideal <= 0:
        return ndcg_at(ranked, targets, k)
    gained = sum(targets.get(item, 0.0) / np.log2(place + 2) for place, item in enumerate(ranked[:k]))
    return float(gained / ideal)


def money_weighted_mean(metric_N: np.ndarray, money_N: np.ndarray) -> float:
    """Mean over requests, each counting by the money of its targets; the plain mean when none brought any.

    Of `value_recall_at` it is the share of all money that the lists caught. The plain means ask another question: there
    a request counts once however much it brought, and one with a single target is blind to value.
    """
    return float(np.average(metric_N, weights=money_N if money_N.sum() > 0 else None))


METRICS = {
    "recall": recall_at,
    "ndcg": ndcg_at,
    "value_recall": value_recall_at,
    "value_ndcg": value_ndcg_at,
}


def measure(ranked: Sequence[str], targets: Mapping[str, float], cutoffs: Sequence[int]) -> dict[str, float]:
    """Every metric at every cutoff: {"recall@10": ..., ...}."""
    return {f"{name}@{k}": metric(ranked, targets, k) for name, metric in METRICS.items() for k in cutoffs}


def bootstrap_ratio(
    numerator: np.ndarray, denominator: np.ndarray, *, rounds: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Ratio of two means over the same requests, and its paired bootstrap interval.

    `numerator` and `denominator` are [N] or [seeds, N]: requests are drawn anew (the same draw for both), seeds are
    averaged. Returns (ratio, lower, upper).
    """
    above = np.atleast_2d(numerator).mean(axis=0)
    below = np.atleast_2d(denominator).mean(axis=0)
    draws = np.random.default_rng(seed).integers(0, len(above), size=(rounds, len(above)))
    ratios = above[draws].mean(axis=1) / np.maximum(below[draws].mean(axis=1), 1e-12)
    lower, upper = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(above.mean() / max(below.mean(), 1e-12)), float(lower), float(upper)
