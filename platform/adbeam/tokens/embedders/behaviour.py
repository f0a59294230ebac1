"""The behaviour part of an item's vector: who bought it, and with what.

Rows of a sparse matrix are users and requests (baskets, page views) of the training split, columns are items. Its
normalised form D_r^-1/2 A D_c^-1/2 (regularised correspondence analysis) has large entries where an item comes more
often than chance, as PPMI does, without a list of item pairs. Items with few events lean on what their content
predicts, by ridge regression, and an ad nobody has met yet has nothing else.

Shapes: N items, E content features, F behaviour features, R users and requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from adbeam.records import ACTIONS, Action
from adbeam.tokens.embedders.base import normalise

TRAIN = 0
MAX_EVENTS = 20_000_000
"""Events read at most: enough for the leading factors of any catalogue, and about 1 GB."""


@dataclass(frozen=True)
class Interactions:
    """Training events by number: row r of `user_R`, `request_R`, `item_R` is one event; `item_ids` names the items."""

    user_R: np.ndarray
    request_R: np.ndarray
    item_R: np.ndarray
    item_ids: list[str]

    @property
    def events_N(self) -> np.ndarray:
        """int64 [N]: events of each item."""
        return np.bincount(self.item_R, minlength=len(self.item_ids))


def read_interactions(sequences: Path, *, max_events: int = MAX_EVENTS) -> Interactions:
    """The training events of the strongest action the log has (conversions, else clicks, else all).

    Reads user by user and stops after `max_events`.
    """
    floor = _strongest_action(sequences)
    users, requests, items, held, user_offset, request_offset = [], [], [], 0, 0, 0
    for batch in _batches(sequences):
        user_R, request_R, item_R = _flatten(batch, floor)
        users.append(user_R + user_offset)
        requests.append(request_R + request_offset)
        items.append(item_R)
        user_offset += batch.num_rows
        request_offset += int(request_R.max(initial=-1)) + 1
        held += len(user_R)
        if held >= max_events:
            break
    encoded = pa.chunked_array(items, pa.string()).combine_chunks().dictionary_encode()
    return Interactions(
        np.concatenate([*users, np.zeros(0, np.int64)]),
        np.concatenate([*requests, np.zeros(0, np.int64)]),
        np.asarray(encoded.indices, np.int64),
        encoded.dictionary.to_pylist(),
    )


def behaviour_vectors(events: Interactions, dimensions: int, *, seed: int) -> np.ndarray:
    """float32 [N, F]: unit vectors of the items of `events`, from users and requests together."""
    items = len(events.item_ids)
    count_UN = _counts(events.user_R, events.item_R, items)
    count_UN.data = np.log1p(count_UN.data)  # the tenth purchase of milk says less than the first
    count_BN = _counts(events.request_R, events.item_R, items)
    count_BN.data[:] = 1
    matrix_RN = sparse.vstack([_degree_normalised(count_UN), _degree_normalised(count_BN)]).tocsr()
    rank = min(dimensions + 1, min(matrix_RN.shape) - 1)
    if rank < 2:
        return np.zeros((items, 0), np.float32)
    _, scale_F, component_FN = randomized_svd(matrix_RN, n_components=rank, n_iter=5, random_state=seed)
    # The first factor is mere popularity. The others count by their singular value.
    return normalise(np.ascontiguousarray((component_FN[1:] * scale_F[1:, None]).T, np.float32))


def ridge(
    content_NE: np.ndarray, behaviour_NF: np.ndarray, weight_N: np.ndarray, *, penalty: float = 1.0
) -> np.ndarray:
    """float32 [E + 1, F]: how content predicts behaviour; the last row is the intercept."""
    x_NE = np.concatenate([content_NE, np.ones((len(content_NE), 1), np.float32)], axis=1)
    weighted_NE = x_NE * weight_N[:, None].astype(np.float32)
    gram_EE = weighted_NE.T @ x_NE + penalty * np.eye(x_NE.shape[1], dtype=np.float32)
    return np.linalg.solve(gram_EE, weighted_NE.T @ behaviour_NF).astype(np.float32)


def predict(content_NE: np.ndarray, map_EF: np.ndarray) -> np.ndarray:
    """float32 [N, F]: the behaviour that content predicts."""
    behaviour_NF: np.ndarray = content_NE @ map_EF[:-1] + map_EF[-1]
    return behaviour_NF


def _batches(sequences: Path) -> Iterator[pa.RecordBatch]:
    columns = ["split", "request_id", "item_id", "action"]
    yield from ds.dataset(sequences, format="parquet").to_batches(columns=columns, batch_size=4096)


def _strongest_action(sequences: Path) -> int:
    wanted = [ACTIONS.index(Action.CONVERSION), ACTIONS.index(Action.CLICK)]
    seen: set[int] = set()
    for batch in ds.dataset(sequences, format="parquet").to_batches(columns=["split", "action"]):
        action_R = pc.filter(pc.list_flatten(batch["action"]), pc.equal(pc.list_flatten(batch["split"]), TRAIN))
        seen.update(pc.unique(action_R).to_pylist())
        if wanted[0] in seen:
            break
    return next((action for action in wanted if action in seen), 0)


def _flatten(batch: pa.RecordBatch, floor: int) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """(user [R], request [R], item id [R]) of the training events of a batch whose action is at least `floor`."""
    keep = pc.and_(
        pc.equal(pc.list_flatten(batch["split"]), TRAIN), pc.greater_equal(pc.list_flatten(batch["action"]), floor)
    )
    user_R = np.asarray(pc.filter(pc.list_parent_indices(batch["item_id"]), keep), np.int64)
    request_R = np.asarray(pc.filter(pc.list_flatten(batch["request_id"]), keep).dictionary_encode().indices, np.int64)
    return user_R, request_R, pc.filter(pc.list_flatten(batch["item_id"]), keep)


def _counts(row_R: np.ndarray, item_R: np.ndarray, items: int) -> sparse.csr_matrix:
    ones_R = np.ones(len(row_R), np.float32)
    return sparse.csr_matrix((ones_R, (row_R, item_R)), shape=(int(row_R.max(initial=-1)) + 1, items))


def _degree_normalised(count_RN: sparse.csr_matrix) -> sparse.csr_matrix:
    """D_r^-1/2 A D_c^-1/2 with the mean degree added to each degree, so that rare rows do not rule the factors."""
    row_R, column_N = np.asarray(count_RN.sum(axis=1)).ravel(), np.asarray(count_RN.sum(axis=0)).ravel()
    left = sparse.diags_array(1 / np.sqrt(row_R + max(row_R.mean(), 1e-12)))
    right = sparse.diags_array(1 / np.sqrt(column_N + max(column_N.mean(), 1e-12)))
    return (left @ count_RN @ right).tocsr().astype(np.float32)
