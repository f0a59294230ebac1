"""TIFU-KNN (Hu et al. 2020): a user's own items, newer baskets more, mixed with those of the users nearest to him.

    u = mean over groups of group_decay^age (mean over a group's baskets of basket_decay^age basket)
    score = own_share u + (1 - own_share) mean of u over the k nearest users, by Euclidean distance

Groups are `group_baskets` baskets each, counted from the newest. Shapes: B pasts, U training users, N items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from adbeam.evaluation.baselines.events import Past, TrainingEvents, weighted
from adbeam.evaluation.config import UserKnnConfig


class UserKnn:
    """Vectors of training users; `score` finds the nearest ones of a past."""

    def __init__(self, events: TrainingEvents, config: UserKnnConfig, seed: int = 0) -> None:
        self.config, self.items = config, events.items
        users = np.unique(events.user_E)
        if len(users) > config.users:
            users = np.sort(np.random.default_rng(seed).choice(users, config.users, replace=False))
        edges = np.searchsorted(events.user_E, [users, users + 1])
        pasts = [
            Past(events.item_E[start:end], events.basket_E[start:end], int(user))
            for user, start, end in zip(users, *edges, strict=True)
        ]
        self.row_of = {past.user: row for row, past in enumerate(pasts)}
        self.vector_UN = self._vectors(pasts)
        self.norm_U = _squares(self.vector_UN)

    def score(self, pasts: Sequence[Past]) -> sparse.csr_matrix:
        """float64 [B, N]; of a user of training, his own row is no neighbour."""
        own_BN = self._vectors(pasts)
        distance_BU = _squares(own_BN)[:, None] + self.norm_U - 2 * (own_BN @ self.vector_UN.T).toarray()
        for row, past in enumerate(pasts):
            if past.user in self.row_of:
                distance_BU[row, self.row_of[past.user]] = np.inf
        k = min(self.config.neighbours, max(0, len(self.norm_U) - 1))
        if not k:
            return own_BN
        near_BK = np.argpartition(distance_BU, k - 1, axis=1)[:, :k]
        chosen = np.repeat(np.arange(len(pasts)), k), near_BK.ravel()
        mean_BU = sparse.csr_matrix((np.full(near_BK.size, 1 / k), chosen), shape=distance_BU.shape)
        share = self.config.own_share
        return sparse.csr_matrix(share * own_BN + (1 - share) * (mean_BU @ self.vector_UN))

    def _vectors(self, pasts: Sequence[Past]) -> sparse.csr_matrix:
        return weighted(pasts, [self._weights(past) for past in pasts], self.items)

    def _weights(self, past: Past) -> np.ndarray:
        """float64 [H]: what each event adds to the user's vector; an item counts once a basket."""
        if not len(past.item_H):
            return np.zeros(0)
        age_H = past.basket_H[-1] - past.basket_H
        group_H, place_H = np.divmod(age_H, self.config.group_baskets)
        baskets, groups = int(age_H[0]) + 1, int(group_H[0]) + 1
        in_group_H = np.minimum(self.config.group_baskets, baskets - group_H * self.config.group_baskets)
        weight_H = self.config.basket_decay**place_H * self.config.group_decay**group_H / (in_group_H * groups)
        _, first = np.unique(np.stack([past.basket_H, past.item_H]), axis=1, return_index=True)
        once_H = np.zeros(len(age_H))
        once_H[first] = 1
        weighted_H: np.ndarray = weight_H * once_H
        return weighted_H


def _squares(vector_RN: sparse.csr_matrix) -> np.ndarray:
    """float64 [R]: squared length of each row."""
    return np.asarray(vector_RN.multiply(vector_RN).sum(axis=1)).ravel()
