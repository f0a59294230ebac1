"""Directed item neighbours: how strongly item b follows item a in the events of users, and what reads like a.

    score(a, b) = (sum over pairs of weight(distance) length^-l) / (n_a^s n_b^t)  +  w cosine(text_a, text_b)^p

A pair is two events of one user, at most a window apart; one read against time counts `backward`. n is an item's number
of events. Sums are exact, taken for a range of items at a time, and only the strongest neighbours of a finished range
are kept, so no list of all pairs ever exists.

Shapes: E events, N items, R items of a range, W distances, H hashed terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from scipy import sparse

from adbeam.tokens.config import EmbedderConfig, NeighboursConfig
from adbeam.tokens.embedders.attributes import AttributeEmbedder

DENSE_BYTES = 64 << 20
"""Of a block of text similarities at a time."""


@dataclass(frozen=True)
class PairWeights:
    """What a pair of events counts."""

    distance_W: np.ndarray
    """By how many events they are apart, from 1."""
    backward: float = 0.0
    length_damping: float = 0.0
    source_damping: float = 0.0
    target_damping: float = 0.0

    @classmethod
    def of(cls, config: NeighboursConfig) -> Self:
        """Those that the settings tell."""
        return cls(
            config.distance_decay ** np.arange(config.window_events), config.backward_weight, config.length_damping,
            config.source_damping, config.target_damping,
        )  # fmt: skip

    @classmethod
    def sequential_rules(cls, window_events: int) -> Self:
        """1 / distance, forward only (sequential rules, Ludewig and Jannach 2018)."""
        return cls(1 / np.arange(1, window_events + 1))


class DirectedCounts:
    """Pairs of events, summed by item. Events come user by user, oldest first."""

    def __init__(self, user_E: np.ndarray, item_E: np.ndarray, items: int, weights: PairWeights) -> None:
        self.user_E, self.item_E, self.weights = user_E, item_E, weights
        self.events_N = np.bincount(item_E, minlength=items)
        self._by_item_E = np.argsort(item_E, kind="stable")
        self._edges_N = np.concatenate([[0], np.cumsum(self.events_N)])
        length_E = np.bincount(user_E)[user_E] if len(user_E) else np.zeros(0)
        self._weight_E = length_E.astype(np.float64) ** -weights.length_damping
        self._damped_N = np.maximum(self.events_N, 1).astype(np.float64)

    def rows(self, first: int, last: int) -> sparse.csr_matrix:
        """float64 [R, N]: scores of the neighbours of items `first` to `last` - 1; an item is not its own."""
        N = len(self.events_N)
        total_RN = sparse.csr_matrix((last - first, N))
        at_P = self._by_item_E[self._edges_N[first] : self._edges_N[last]]
        for distance, weight in enumerate(self.weights.distance_W, start=1):
            total_RN = total_RN + self._pairs(at_P, distance, float(weight), first, total_RN.shape)
            if self.weights.backward:
                backward = float(weight) * self.weights.backward
                total_RN = total_RN + self._pairs(at_P, -distance, backward, first, total_RN.shape)
        source_R = self._damped_N[first:last] ** -self.weights.source_damping
        target_N = self._damped_N**-self.weights.target_damping
        return sparse.csr_matrix(sparse.diags_array(source_R) @ total_RN @ sparse.diags_array(target_N))

    def _pairs(
        self, at_P: np.ndarray, step: int, weight: float, first: int, shape: tuple[int, int]
    ) -> sparse.csr_matrix:
        """Pairs of the events `at_P` with those `step` places on."""
        at_P = at_P[(at_P + step >= 0) & (at_P + step < len(self.item_E))]
        other_P = at_P + step
        fine_P = (self.user_E[at_P] == self.user_E[other_P]) & (self.item_E[at_P] != self.item_E[other_P])
        at_P, other_P = at_P[fine_P], other_P[fine_P]
        place = (self.item_E[at_P] - first, self.item_E[other_P])
        return sparse.csr_matrix((self._weight_E[at_P] * weight, place), shape=shape)


class TextSimilarity:
    """Cosines of the items' TF-IDF vectors."""

    def __init__(self, items: pa.Table, config: NeighboursConfig) -> None:
        fields = [name for name in config.text_fields if name in items.column_names]
        self.config = config
        if fields:
            embedder = AttributeEmbedder(EmbedderConfig(text_fields=tuple(fields), price_field=None))
            self.term_NH = embedder.term_vectors(items)
        else:
            self.term_NH = sparse.csr_matrix((items.num_rows, 1), dtype=np.float32)

    def rows(self, first: int, last: int) -> sparse.csr_matrix:
        """float64 [R, N]: weighted powers of the cosines of the nearest texts; an item is not its own."""
        step = max(1, DENSE_BYTES // (4 * max(1, self.term_NH.shape[0])))
        parts = [self._block(start, min(start + step, last)) for start in range(first, last, step)]
        return sparse.csr_matrix(sparse.vstack(parts))

    def _block(self, first: int, last: int) -> sparse.csr_matrix:
        cosine_RN = sparse.csr_matrix(self.term_NH[first:last] @ self.term_NH.T).astype(np.float64)
        cosine_RN = strongest(without_own(cosine_RN, first), self.config.text_neighbours)
        cosine_RN.data = self.config.text_weight * cosine_RN.data**self.config.text_power
        return cosine_RN


@dataclass(frozen=True)
class NeighbourRows:
    """Neighbours of a range of items, from events and texts: what `neighbour_table` of directed_job asks for."""

    counts: DirectedCounts
    text: TextSimilarity | None
    neighbours: int
    answers_N: np.ndarray | None = None
    """bool [N]: items that may be neighbours; None: all."""

    def rows(self, first: int, last: int) -> sparse.csr_matrix:
        """float32 [R, N]: the strongest neighbours, at most `neighbours` an item."""
        score_RN = self.counts.rows(first, last)
        if self.text is not None:
            score_RN = sparse.csr_matrix(score_RN + self.text.rows(first, last))
        if self.answers_N is not None:
            score_RN = sparse.csr_matrix(score_RN @ sparse.diags_array(self.answers_N.astype(np.float64)))
        return strongest(score_RN, self.neighbours).astype(np.float32)


def strongest(score_RN: sparse.csr_matrix, most: int) -> sparse.csr_matrix:
    """The `most` largest scores above 0 of each row; of equal ones those of the first items."""
    found = score_RN.tocoo()
    above = found.data > 0
    row, column, score = found.row[above], found.col[above], found.data[above]
    order = np.lexsort((column, -score, row))
    row, column, score = row[order], column[order], score[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < most
    return sparse.csr_matrix((score[kept], (row[kept], column[kept])), shape=score_RN.shape)


def without_own(score_RN: sparse.csr_matrix, first: int) -> sparse.csr_matrix:
    """The scores without those of an item for itself; row 0 is item `first`."""
    found = score_RN.tocoo()
    other = found.col != found.row + first
    return sparse.csr_matrix((found.data[other], (found.row[other], found.col[other])), shape=score_RN.shape)
