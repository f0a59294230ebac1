"""The training events of a log by number, and the past of a request in the same numbers.

Shapes: E events, N items, H events of one past, B pasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from scipy import sparse

from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import Request
from adbeam.records import ACTIONS, SPLITS

COLUMNS = ("user_id", "split", "request_id", "item_id", "action")
TRAIN = SPLITS.index("train")


@dataclass(frozen=True)
class Past:
    """What one user did before a moment, oldest first."""

    item_H: np.ndarray
    """int, numbers of items."""
    basket_H: np.ndarray
    """int, rising from 0: events of one request are one basket."""
    user: int = -1
    """Number of the user among those of training; -1 where he is none of them."""

    @classmethod
    def of(cls, item_H: np.ndarray, user: int = -1) -> Self:
        """A past whose items came one by one."""
        return cls(item_H, np.arange(len(item_H)), user)


@dataclass(frozen=True)
class TrainingEvents:
    """Events user by user, oldest first."""

    user_E: np.ndarray
    item_E: np.ndarray
    basket_E: np.ndarray
    """Rising: events next to each other that are of one request share theirs."""
    item_ids: Sequence[str]
    user_ids: Sequence[str]
    floor: int = 0
    """Place in ACTIONS of the weakest action that counts."""

    @classmethod
    def read(cls, log: PreparedLog, weakest: str | None = None) -> Self:
        """The training events of a prepared log that are `weakest` (by default its target action) or a stronger action,
        over its catalogue."""
        item_ids = log.catalogue().column("item_id").combine_chunks()
        floor = ACTIONS.index(weakest or log.target_action)
        users, items, baskets, user_ids, last_basket = [], [], [], list[str](), 0
        for batch in ds.dataset(log.sequences(), format="parquet").to_batches(columns=list(COLUMNS), batch_size=4096):
            kept = pc.and_(
                pc.equal(pc.list_flatten(batch["split"]), TRAIN),
                pc.greater_equal(pc.list_flatten(batch["action"]), floor),
            )
            item = pc.index_in(pc.list_flatten(batch["item_id"]).filter(kept), item_ids)
            user_E = np.asarray(pc.list_parent_indices(batch["item_id"]).filter(kept), np.int64)
            request_E = pc.list_flatten(batch["request_id"]).filter(kept).dictionary_encode().indices.to_numpy()
            basket_E = last_basket + _changes(user_E, request_E)
            known_E = pc.is_valid(item).to_numpy(zero_copy_only=False)
            items.append(pc.fill_null(item, 0).to_numpy()[known_E].astype(np.int64))
            users.append(user_E[known_E] + len(user_ids))
            baskets.append(basket_E[known_E])
            user_ids += batch["user_id"].to_pylist()
            last_basket = int(basket_E[-1]) + 1 if len(basket_E) else last_basket
        parts = [np.concatenate([*part, np.zeros(0, np.int64)]) for part in (users, items, baskets)]
        return cls(parts[0], parts[1], parts[2], item_ids.to_pylist(), user_ids, floor)

    @property
    def items(self) -> int:
        """N."""
        return len(self.item_ids)

    @cached_property
    def number_of(self) -> dict[str, int]:
        """The number of an item."""
        return {item: number for number, item in enumerate(self.item_ids)}

    @cached_property
    def user_number(self) -> dict[str, int]:
        """The number of a user."""
        return {user: number for number, user in enumerate(self.user_ids)}

    def past(self, request: Request) -> Past:
        """What came before a request, in the actions that count."""
        events = slice(0, request.end)
        sequence = request.sequence
        number_H = np.array([self.number_of.get(item, -1) for item in sequence.item_H[events]], np.int64)
        kept_H = (number_H >= 0) & (sequence.action_H[events] >= self.floor)
        request_H = pa.array(sequence.request_H[events][kept_H], pa.string()).dictionary_encode().indices.to_numpy()
        basket_H = _changes(np.zeros(len(request_H)), request_H)
        return Past(number_H[kept_H], basket_H, self.user_number.get(sequence.user_id, -1))


def weighted(pasts: Sequence[Past], weights: Sequence[np.ndarray], items: int) -> sparse.csr_matrix:
    """float64 [B, N]: `weights` [H] of each past's events, summed by item."""
    row = np.repeat(np.arange(len(pasts)), [len(past.item_H) for past in pasts])
    item = np.concatenate([past.item_H for past in pasts] + [np.zeros(0, np.int64)])
    weight = np.concatenate([*weights, np.zeros(0)])
    return sparse.csr_matrix((weight, (row, item)), shape=(len(pasts), items))


def _changes(user_E: np.ndarray, request_E: np.ndarray) -> np.ndarray:
    """int [E]: rising by one wherever user or request changes."""
    if not len(user_E):
        return np.zeros(0, np.int64)
    changed_E = (np.diff(user_E) != 0) | (np.diff(request_E) != 0)
    return np.concatenate([[0], np.cumsum(changed_E)]).astype(np.int64)
