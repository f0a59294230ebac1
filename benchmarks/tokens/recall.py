"""Next-item recall of a small generative model over SIDs: what a set of SIDs loses or gains for generation.

The model writes the next item's SID code by code, as LazyAR does, but counts instead of learning: an n-gram over codes
whose context is the last item, backing off from its whole SID to its first codes to nothing (interpolated, each level
with weight n / (n + MASS)). It is the same for every tokenizer, has nothing to tune and takes seconds, so that what
differs between two rows is the SIDs alone. Items that share a SID come by training popularity.

Shapes: N items, S distinct SIDs, T levels, B queries, P prefixes of a length.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import sparse

from adbeam.tokens.metrics import sid_groups

MASS = 2.0
BATCH = 256


def next_item_hits(sids_NT: np.ndarray, sequences: Sequence[Sequence[int]], users: np.ndarray, k: int) -> np.ndarray:
    """float [len(users)]: whether the last item of each user is among the k that the model ranks first.

    Counted over the training prefixes (all but the last two items); the query is the item before the last.
    """
    model = CodeModel(sids_NT, sequences)
    query_U = np.array([sequences[user][-2] for user in users])
    target_U = np.array([sequences[user][-1] for user in users])
    hits = [
        model.hits(query_U[start : start + BATCH], target_U[start : start + BATCH], k)
        for start in range(0, len(users), BATCH)
    ]
    return np.concatenate(hits)


class CodeModel:
    """Counts of code prefixes after contexts."""

    def __init__(self, sids_NT: np.ndarray, sequences: Sequence[Sequence[int]]) -> None:
        levels = sids_NT.shape[1]
        prefix_TN = [np.zeros(len(sids_NT), np.int64)] + [sid_groups(sids_NT[:, : t + 1]) for t in range(levels)]
        self._sid_N = prefix_TN[-1]
        first_S = np.unique(self._sid_N, return_index=True)[1]
        self._prefix_TS = [prefix_N[first_S] for prefix_N in prefix_TN]
        pairs = [pair for items in sequences for pair in pairwise(items[:-2])]
        before, after = np.array(pairs).T
        self._context_CN = prefix_TN
        self._counts = [
            [_counts(context_N[before], prefix_N[after], context_N, prefix_N) for prefix_N in prefix_TN]
            for context_N in prefix_TN
        ]
        popularity_N = np.bincount(np.concatenate([items[:-2] for items in sequences]), minlength=len(sids_NT))
        self._place_N, self._size_S = _places(self._sid_N, popularity_N)
        self._uniform_TS = [self._children(t) for t in range(1, levels + 1)]

    def hits(self, query_B: np.ndarray, target_B: np.ndarray, k: int) -> np.ndarray:
        """Whether each target is among the first k items."""
        score_BS = self._log_probability(query_B)
        mine_B1 = score_BS[np.arange(len(query_B)), self._sid_N[target_B], None]
        before_B = (score_BS > mine_B1) @ self._size_S
        return (before_B + self._place_N[target_B] < k).astype(float)

    def _log_probability(self, query_B: np.ndarray) -> np.ndarray:
        total_BS = np.zeros((len(query_B), len(self._size_S)))
        for level, uniform_S in enumerate(self._uniform_TS, start=1):
            p_BS = np.broadcast_to(uniform_S, total_BS.shape)
            for context_N, counts in zip(self._context_CN, self._counts, strict=True):
                rows = context_N[query_B]
                whole_BS = counts[level][rows].toarray()[:, self._prefix_TS[level]]
                above_BS = counts[level - 1][rows].toarray()[:, self._prefix_TS[level - 1]]
                p_BS = (whole_BS + MASS * p_BS) / (above_BS + MASS)
            total_BS += np.log(p_BS)
        return total_BS

    def _children(self, level: int) -> np.ndarray:
        """1 / (codes that follow the prefix of length level - 1), for each SID."""
        above_S, here_S = self._prefix_TS[level - 1], self._prefix_TS[level]
        first = np.unique(here_S, return_index=True)[1]
        return 1 / np.bincount(above_S[first])[above_S]


def _counts(
    context_R: np.ndarray, prefix_R: np.ndarray, context_N: np.ndarray, prefix_N: np.ndarray
) -> sparse.csr_matrix:
    shape = (int(context_N.max()) + 1, int(prefix_N.max()) + 1)
    return sparse.csr_matrix((np.ones(len(context_R), np.float32), (context_R, prefix_R)), shape=shape)


def _places(sid_N: np.ndarray, popularity_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(place of each item among those of its SID, most popular first, [N]; items of each SID [S])."""
    order = np.lexsort((-popularity_N, sid_N))
    size_S = np.bincount(sid_N)
    place_N = np.empty(len(sid_N), np.int64)
    place_N[order] = np.arange(len(sid_N)) - np.repeat(np.cumsum(size_S) - size_S, size_S)
    return place_N, size_S
