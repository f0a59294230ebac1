"""Swing: how strongly two items go together, judged by pairs of users who chose both.

    sim(i, j) = sum over user pairs {u, v} that both chose i and j of 1 / (alpha + |I_u & I_v|)

Two users who share little else say more about i and j than two who share everything. The sum is exact. It is taken user
by user for a range of items i at a time, and only the strongest neighbours of a finished range are kept, so no list of
all pairs ever exists.

Shapes: U users, N items, R items of a range, K neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

USERS_PER_BLOCK = 256


@dataclass(frozen=True)
class Neighbours:
    """The K strongest neighbours of items `first`..: numbers (-1 where there are fewer) and Swing scores."""

    first: int
    item_RK: np.ndarray
    score_RK: np.ndarray


def user_items(user_R: np.ndarray, item_R: np.ndarray, items: int, *, max_items: int) -> sparse.csr_matrix:
    """bool [U, N]: who chose what; of a user with more than `max_items` only the last `max_items` count."""
    users = int(user_R.max(initial=-1)) + 1
    order = np.argsort(user_R, kind="stable")
    rank = np.arange(len(user_R)) - np.searchsorted(user_R[order], user_R[order])
    count_U = np.bincount(user_R, minlength=users)
    recent = order[rank >= count_U[user_R[order]] - max_items]
    ones = np.ones(len(recent), np.float32)
    chosen_UN = sparse.csr_matrix((ones, (user_R[recent], item_R[recent])), shape=(users, items))
    chosen_UN.data[:] = 1
    return chosen_UN


def swing(chosen_UN: sparse.csr_matrix, *, alpha: float, neighbours: int, items_per_range: int) -> Iterator[Neighbours]:
    """The strongest neighbours of every item, one range after the other."""
    for first in range(0, chosen_UN.shape[1], items_per_range):
        last = min(first + items_per_range, chosen_UN.shape[1])
        yield swing_range(chosen_UN, first, last, alpha=alpha, neighbours=neighbours)


def swing_range(chosen_UN: sparse.csr_matrix, first: int, last: int, *, alpha: float, neighbours: int) -> Neighbours:
    """The strongest neighbours of the items `first` to `last` - 1."""
    total_RN = sparse.csr_matrix((last - first, chosen_UN.shape[1]), dtype=np.float32)
    involved = np.flatnonzero(np.diff(chosen_UN[:, first:last].indptr))
    for start in range(0, len(involved), USERS_PER_BLOCK):
        total_RN = total_RN + _block(chosen_UN, involved[start : start + USERS_PER_BLOCK], first, last, alpha)
    return _strongest(total_RN, first, neighbours)


def _block(chosen_UN: sparse.csr_matrix, users: np.ndarray, first: int, last: int, alpha: float) -> sparse.csr_matrix:
    """What the pairs {u, v} with u in `users` add to rows `first` to `last`; each pair is met twice, hence the half."""
    shared_BU = (chosen_UN[users] @ chosen_UN.T).tocsr()
    rows, columns, scores = [], [], []
    for number, user in enumerate(users):
        span = slice(shared_BU.indptr[number], shared_BU.indptr[number + 1])
        other_V, shared_V = shared_BU.indices[span], shared_BU.data[span]
        useful_V = (shared_V >= 2) & (other_V != user)  # one shared item makes no pair of items
        items = chosen_UN.indices[chosen_UN.indptr[user] : chosen_UN.indptr[user + 1]]
        mine = np.flatnonzero((items >= first) & (items < last))
        if not useful_V.any():
            continue
        both_VI = chosen_UN[other_V[useful_V]][:, items].toarray()
        weight_V = 0.5 / (alpha + shared_V[useful_V])
        score_MI = (both_VI[:, mine] * weight_V[:, None]).T @ both_VI
        at_M, at_I = np.nonzero(score_MI)
        rows.append(items[mine[at_M]] - first)
        columns.append(items[at_I])
        scores.append(score_MI[at_M, at_I])
    shape = (last - first, chosen_UN.shape[1])
    if not rows:
        return sparse.csr_matrix(shape, dtype=np.float32)
    place = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(scores).astype(np.float32), place), shape=shape)


def _strongest(total_RN: sparse.csr_matrix, first: int, neighbours: int) -> Neighbours:
    item_RK = np.full((total_RN.shape[0], neighbours), -1, np.int64)
    score_RK = np.zeros((total_RN.shape[0], neighbours), np.float32)
    for row in range(total_RN.shape[0]):
        span = slice(total_RN.indptr[row], total_RN.indptr[row + 1])
        other, score = total_RN.indices[span], total_RN.data[span]
        fine = (other != first + row) & (score > 0)
        other, score = other[fine], score[fine]
        best = np.lexsort((other, -score))[:neighbours]
        item_RK[row, : len(best)], score_RK[row, : len(best)] = other[best], score[best]
    return Neighbours(first, item_RK, score_RK)
