"""Items that follow the user's newest ones: directed neighbours with text, and sequential rules.

The table of neighbours is tokens/cooccurrence/directed.py's; a user's newest events vote with it, older baskets less.
Shapes: B pasts, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from adbeam.evaluation.baselines.events import Past, TrainingEvents, weighted
from adbeam.evaluation.config import NeighbourBaselineConfig
from adbeam.tokens.cooccurrence.directed import DirectedCounts, NeighbourRows, PairWeights, TextSimilarity
from adbeam.tokens.cooccurrence.directed_job import neighbour_table


@dataclass(frozen=True)
class NeighbourVotes:
    """A table of neighbours, and how much each event of a past says."""

    table_NN: sparse.csr_matrix
    events: int
    """Newest events of a past that vote."""
    age_decay: float
    """An event says this to the power of the baskets that came after its own."""

    def score(self, pasts: Sequence[Past]) -> sparse.csr_matrix:
        """float [B, N]."""
        newest = [Past(past.item_H[-self.events :], past.basket_H[-self.events :], past.user) for past in pasts]
        weights = [self.age_decay ** (past.basket_H.max(initial=0) - past.basket_H).astype(float) for past in newest]
        return sparse.csr_matrix(weighted(newest, weights, self.table_NN.shape[0]) @ self.table_NN)


def directed_neighbours(
    events: TrainingEvents,
    catalogue: pa.Table,
    config: NeighbourBaselineConfig,
    answers_N: np.ndarray | None = None,
    workers: int = 0,
) -> NeighbourVotes:
    """Directed pairs of training events and similar texts; `answers_N` [N] are the items that may be answered,
    `workers` the Ray actors that sum (0: this process)."""
    text = TextSimilarity(catalogue, config) if config.text_fields and config.text_weight else None
    counts = DirectedCounts(events.user_E, events.item_E, events.items, PairWeights.of(config))
    rows = NeighbourRows(counts, text, config.neighbours, answers_N)
    table_NN = neighbour_table(rows, config.items_per_range, workers)
    return NeighbourVotes(table_NN, config.history_events, config.age_decay)


def sequential_rules(
    events: TrainingEvents, config: NeighbourBaselineConfig, answers_N: np.ndarray | None = None, workers: int = 0
) -> NeighbourVotes:
    """What came after the newest item, by 1 / distance (SR of Ludewig and Jannach 2018, which ask the last item)."""
    weights = PairWeights.sequential_rules(config.window_events)
    counts = DirectedCounts(events.user_E, events.item_E, events.items, weights)
    rows = NeighbourRows(counts, None, config.neighbours, answers_N)
    return NeighbourVotes(neighbour_table(rows, config.items_per_range, workers), events=1, age_decay=1.0)
