"""Baselines to beat: popularity and repeats, and what counts of a log's events know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adbeam.imports.lazy import names_of

if TYPE_CHECKING:
    from adbeam.evaluation.baselines.popularity import (
        Popularity,
        count_conversions,
        first_allowed,
        rank_popularity,
    )

__all__ = ["Popularity", "count_conversions", "first_allowed", "rank_popularity"]

# Late: a configuration names baselines, and counting loads SciPy.
__getattr__ = names_of(__name__, dict.fromkeys(__all__, "adbeam.evaluation.baselines.popularity"))
