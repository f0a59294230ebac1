"""EASE (Steck 2019): the linear item-to-item model with a zero diagonal, in closed form.

    P = (X^T X + penalty I)^-1,  B = I - P diag(1 / diag P),  score = x B

over the items with the most training events; x is 1 for what a user had. Memory is 4 M^2 bytes.
Shapes: B pasts, U users, N items, M items of the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.linalg.lapack import spotrf, spotri

from adbeam.evaluation.baselines.events import Past, TrainingEvents
from adbeam.evaluation.config import EaseConfig


class Ease:
    """B for the most frequent items; other items have no score."""

    def __init__(self, events: TrainingEvents, config: EaseConfig) -> None:
        count_N = np.bincount(events.item_E, minlength=events.items)
        M = min(config.items, int((count_N > 0).sum()))
        self.item_M = np.sort(np.argsort(-count_N, kind="stable")[:M])
        self.place_N = np.full(events.items, -1)
        self.place_N[self.item_M] = np.arange(M)
        self.weight_MM = _weights(self._chosen(events), config.penalty)

    def score(self, pasts: Sequence[Past]) -> sparse.csr_matrix:
        """float32 [B, N], scores above 0."""
        places = [np.unique(self.place_N[past.item_H]) for past in pasts]
        had_BM = np.zeros((len(pasts), len(self.item_M)), np.float32)
        for row, place in enumerate(places):
            had_BM[row, place[place >= 0]] = 1
        score_BM = sparse.csr_matrix(np.maximum(sparse.csr_matrix(had_BM) @ self.weight_MM, 0))
        shape = (len(pasts), len(self.place_N))
        return sparse.csr_matrix((score_BM.data, self.item_M[score_BM.indices], score_BM.indptr), shape=shape)

    def _chosen(self, events: TrainingEvents) -> sparse.csr_matrix:
        """float32 [U, M]: 1 where a user had the item."""
        place_E = self.place_N[events.item_E]
        user_E, place_E = events.user_E[place_E >= 0], place_E[place_E >= 0]
        users = int(events.user_E.max(initial=-1)) + 1
        shape = (users, len(self.item_M))
        chosen_UM = sparse.csr_matrix((np.ones(len(user_E), np.float32), (user_E, place_E)), shape=shape)
        chosen_UM.data[:] = 1
        return chosen_UM


def _weights(chosen_UM: sparse.csr_matrix, penalty: float) -> np.ndarray:
    """float32 [M, M]: B. The Gram matrix is inverted in place, by Cholesky."""
    gram_MM = np.asfortranarray((chosen_UM.T @ chosen_UM).toarray(), np.float32)
    M = len(gram_MM)
    if not M:
        return gram_MM
    np.fill_diagonal(gram_MM, gram_MM.diagonal() + penalty)
    factor_MM, failed = spotrf(gram_MM, lower=1, overwrite_a=1)
    assert not failed, "a Gram matrix and a penalty above 0 are positive definite"
    inverse_MM, _ = spotri(factor_MM, lower=1, overwrite_c=1)
    for row in range(1, M):  # LAPACK fills one triangle
        inverse_MM[:row, row] = inverse_MM[row, :row]
    weights_MM: np.ndarray = inverse_MM.T  # symmetric so far, and now its rows lie in one piece
    weights_MM /= -weights_MM.diagonal().copy()
    np.fill_diagonal(weights_MM, 0)
    return weights_MM
