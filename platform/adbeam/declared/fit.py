"""What the training split makes of a declared feature: the words of its vocabulary, or the quantiles of its numbers.

Shapes: n different values, each with how many requests brought it; E edges.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from adbeam.declared.encoder import FittedFeature
from adbeam.declared.vectors import fit_centres
from adbeam.errors import UserError
from adbeam.targeting.features import FeatureConfig

QUANTILES = 16
"""Buckets of a number whose declaration does not say."""
CENTRES = 64
"""Of each part of a vector whose declaration does not say."""
KEPT_NUMBERS = 8192
"""Different numbers that a summary keeps; of more only their quantiles."""


def fit_words(name: str, config: FeatureConfig, counts: Iterable[tuple[str, int]]) -> FittedFeature:
    """A category or list: its most frequent words, of equally frequent ones the first in order of text."""
    columns = config.longest if config.kind == "list" else 1
    if config.buckets is not None:
        hashed = FittedFeature(name, config.kind, config.source, buckets=config.buckets, columns=columns)
        return _readable(hashed, config)
    kept = sorted((-count, word) for word, count in counts if count >= config.least_requests)
    vocabulary = tuple(word for _, word in kept[: config.most_words])
    return _readable(FittedFeature(name, config.kind, config.source, words=vocabulary, columns=columns), config)


def fit_numbers(name: str, config: FeatureConfig, number_n: np.ndarray, count_n: np.ndarray) -> FittedFeature:
    """A number: edges between quantiles that hold equally many requests, as far as its values allow."""
    buckets = config.buckets or QUANTILES
    order_n = np.argsort(number_n, kind="stable")
    number_n, total_n = number_n[order_n], np.cumsum(count_n[order_n])
    edges: list[float] = []
    if len(number_n):
        wanted_E = np.arange(1, buckets) * (total_n[-1] / buckets)
        edge_E = np.unique(number_n[np.searchsorted(total_n, wanted_E, side="right").clip(max=len(number_n) - 1)])
        edges = edge_E[edge_E > number_n[0]].tolist()
    return _readable(FittedFeature(name, config.kind, config.source, edges=tuple(edges)), config)


def fit_vectors(name: str, config: FeatureConfig, x_nD: np.ndarray) -> FittedFeature:
    """A vector of items: centres of each of its parts. Raises UserError where no item has one."""
    if not len(x_nD):
        raise UserError(
            "no item of the training split has a vector",
            field=f"features.{name}.column",
            value=config.column or name,
            remedy="check the column, or set model: false",
        )
    centre_PCE = fit_centres(x_nD, config.parts, config.buckets or CENTRES)
    centres = tuple(tuple(map(tuple, part)) for part in centre_PCE.tolist())
    fitted = FittedFeature(name, config.kind, config.source, centres=centres, columns=config.parts)
    return _readable(fitted, config)


def _readable(fitted: FittedFeature, config: FeatureConfig) -> FittedFeature:
    """With what a feature of items keeps beside its codes, to be read from any catalogue."""
    if config.source != "item":
        return fitted
    separator = config.separator if config.kind == "list" else None
    return replace(fitted, column=config.column or fitted.name, separator=separator)


def summary(number_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(different numbers, how often each) of a shard; of very many evenly spread quantiles, each for its share."""
    distinct_n, count_n = np.unique(number_n, return_counts=True)
    if len(distinct_n) <= KEPT_NUMBERS:
        return distinct_n, count_n.astype(np.float64)
    sorted_n = np.sort(number_n)
    middle = ((np.arange(KEPT_NUMBERS) + 0.5) * (len(sorted_n) / KEPT_NUMBERS)).astype(np.int64)
    return sorted_n[middle], np.full(KEPT_NUMBERS, len(sorted_n) / KEPT_NUMBERS)
