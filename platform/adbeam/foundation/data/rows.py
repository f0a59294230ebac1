"""What the foundation learns from: users and items that met, in every scene, as ads and on their own.

A row is one item in one request of one user, with the furthest action; what it says of the user is as of the request's
first event, strictly before it. Ads are of the ad branch, organic items of the content branch; the latter have only
chosen items, so items that were not are drawn beside them. Numpy only: data tasks start fast.

Shapes: R rows, P past events whose categories are told, H events of one user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adbeam.foundation.config import FoundationConfig
from adbeam.foundation.data.items import UNKNOWN, Items, bucket_of
from adbeam.logs.requests import AD, UserSequence
from adbeam.records import ACTIONS, DAY_MS, HOUR_MS

CLICK, CONVERSION = ACTIONS.index("click"), ACTIONS.index("conversion")
LABELS = ("clicked", "converted")
CATEGORY = 1
"""Place of the category among the keys of an item."""
COUNTS = 4
"""Counts that a row has of its user: events, acted on, converted, organic."""


def row_type(config: FoundationConfig) -> np.dtype:
    """One row. `known_ms` is when its last deed was done: before it, nobody knew how far the user would go."""
    return np.dtype(
        [
            ("user", np.int32, (1,)),
            ("past", np.int32, (config.history_length,)),
            ("user_dense", np.float32, (COUNTS + 1,)),
            ("item", np.int32, (4,)),
            ("item_dense", np.float32, (1,)),
            ("context", np.int32, (3,)),
            ("ad", np.float32, (1,)),
            ("label", np.float32, (2,)),
            ("weight", np.float32, (1,)),
            ("known_ms", np.int64, (1,)),
            ("row", np.int32, (1,)),
            ("split", np.int8, (1,)),
        ]
    )


def to_table(row_R: np.ndarray) -> pa.Table:
    """Rows as one column of fixed-size lists a field."""
    names = row_R.dtype.names
    assert names is not None
    return pa.table({name: _to_column(row_R[name]) for name in names})


def _to_column(values_RX: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values_RX).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values_RX.shape[1])


def from_table(table: pa.Table) -> dict[str, np.ndarray]:
    """Field name -> array [R, ...] of what `to_table` wrote."""
    return {name: pc.list_flatten(table.column(name)).to_numpy().reshape(len(table), -1) for name in table.column_names}


@dataclass(frozen=True)
class RowMaker:
    """Makes the rows of users over one catalogue."""

    items: Items
    scenes: Sequence[str]
    config: FoundationConfig

    def user_rows(self, sequence: UserSequence, weight_H: np.ndarray, negatives: np.random.Generator) -> np.ndarray:
        """All rows of one user, request by request; items of the content branch that were not chosen among them."""
        row_H = self.items.rows(sequence.item_H)
        by_request: dict[str, list[int]] = {}
        for place, name in enumerate(sequence.request_H.tolist()):
            by_request.setdefault(str(name), []).append(place)
        counts_KH = self._counts(sequence)
        parts = [
            self._request(sequence, np.array(places), row_H, weight_H, counts_KH, negatives)
            for places in by_request.values()
        ]
        return np.concatenate(parts) if parts else self.no_rows()

    def no_rows(self) -> np.ndarray:
        """None of them."""
        return np.empty(0, row_type(self.config))

    def _counts(self, sequence: UserSequence) -> np.ndarray:
        """float [COUNTS, H + 1]: how many events before each place are of each kind."""
        action_H = sequence.action_H
        kinds = (np.ones(len(sequence)), action_H >= CLICK, action_H == CONVERSION, sequence.kind_H != AD)
        return np.stack([np.concatenate([[0.0], np.cumsum(kind_H)]) for kind_H in kinds])

    def _request(
        self,
        sequence: UserSequence,
        place_e: np.ndarray,
        row_H: np.ndarray,
        weight_H: np.ndarray,
        counts_KH: np.ndarray,
        negatives: np.random.Generator,
    ) -> np.ndarray:
        now_ms = int(sequence.timestamp_H[place_e].min())
        place_e = place_e[row_H[place_e] >= 0]
        if not len(place_e):
            return self.no_rows()
        is_ad_e = sequence.kind_H[place_e] == AD
        key_n, first_n, inverse_e = np.unique(row_H[place_e] * 2 + is_ad_e, return_index=True, return_inverse=True)
        action_n, weight_n = np.zeros(len(key_n), np.int64), np.zeros(len(key_n))
        np.maximum.at(action_n, inverse_e, sequence.action_H[place_e])
        np.maximum.at(weight_n, inverse_e, weight_H[place_e])
        known_n = np.zeros(len(key_n), np.int64)
        np.maximum.at(known_n, inverse_e, sequence.timestamp_H[place_e])
        item_n, is_ad_n = key_n // 2, key_n % 2 == 1
        scene_n = sequence.scene_H[place_e[first_n]]
        drawn = self._not_chosen(item_n[~is_ad_n & (action_n >= CLICK)], negatives)
        total = len(item_n) + len(drawn)
        row_R = np.zeros(total, row_type(self.config))
        chosen = slice(0, len(item_n))
        row_R["row"][:, 0] = np.concatenate([item_n, drawn])
        row_R["ad"][chosen, 0] = is_ad_n
        row_R["label"][chosen] = np.stack([action_n >= CLICK, action_n == CONVERSION], 1)
        row_R["weight"][:, 0] = 1.0
        # A conversion implies its exposure, so it was not sampled.
        row_R["weight"][chosen, 0] = np.where(action_n == CONVERSION, 1.0, weight_n)
        row_R["known_ms"][:, 0] = np.append(known_n, np.full(len(drawn), now_ms))
        row_R["split"] = sequence.split_H[place_e[0]]
        self.tell_items(row_R, row_R["row"][:, 0])
        scenes = [*scene_n.tolist(), *[scene_n[0]] * len(drawn)]
        self._tell_context(row_R, scenes, now_ms)
        self._tell_user(row_R, sequence, sequence.count_before(now_ms), row_H, counts_KH, now_ms)
        return row_R

    def _not_chosen(self, chosen_n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int64 rows of organic items, `organic_negatives` for each chosen one; what was chosen is left out."""
        pool = np.flatnonzero(self.items.organic_N)
        count = len(chosen_n) * self.config.organic_negatives
        if not count or not len(pool):
            return np.empty(0, np.int64)
        drawn = pool[rng.integers(len(pool), size=count)]
        return drawn[~np.isin(drawn, chosen_n)]

    def tell_items(self, row_R: np.ndarray, item_R: np.ndarray) -> None:
        """Fill in what the catalogue says of the items of rows."""
        row_R["item"], row_R["item_dense"][:, 0] = self.items.bucket_NK[item_R], self.items.price_N[item_R]

    def _tell_context(self, row_R: np.ndarray, scenes: Sequence[str], now_ms: int) -> None:
        known = {scene: place for place, scene in enumerate(self.scenes, start=1)}
        row_R["context"][:, 0] = [known.get(str(scene), UNKNOWN) for scene in scenes]
        row_R["context"][:, 1:] = now_ms % DAY_MS // HOUR_MS, (now_ms // DAY_MS + 3) % 7

    def _tell_user(
        self,
        row_R: np.ndarray,
        sequence: UserSequence,
        end: int,
        row_H: np.ndarray,
        counts_KH: np.ndarray,
        now_ms: int,
    ) -> None:
        row_R["user"] = bucket_of(sequence.user_id, self.config.user_buckets)
        past_p = row_H[max(0, end - self.config.history_length) : end]
        past_p = past_p[past_p >= 0]
        row_R["past"][:, : len(past_p)] = self.items.bucket_NK[past_p, CATEGORY]
        row_R["user_dense"][:, :COUNTS] = np.log1p(counts_KH[:, end]) / 4
        age_days = (now_ms - int(sequence.timestamp_H[end - 1])) / DAY_MS if end else 365.0
        row_R["user_dense"][:, COUNTS] = np.log1p(age_days) / 3
