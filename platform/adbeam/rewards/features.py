"""What the reward model is told about showing an item to a user: one function for training and for judging lists.

Counts and ages come from the user's events strictly before the request: what was seen at all, what was clicked or
converted, what was converted. Numpy only.

Shapes: N items of the catalogue, H past events of the user, n candidates, C categorical and D dense features,
K item keys (item, category, brand, advertiser), F columns of codes of declared features of items, G groups of
past events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa

from adbeam.declared.encoder import FeatureEncoder
from adbeam.logs.requests import UserSequence
from adbeam.logs.told.items import item_codes
from adbeam.logs.user_events import EventColumns
from adbeam.records import ACTIONS, DAY_MS, HOUR_MS
from adbeam.rewards.config import RewardConfig

KEYS = ("item", "category", "brand", "advertiser")
CATEGORICAL = ("user", "scene", "hour", "weekday", *KEYS)
GROUPS = {"seen": 0, "acted": ACTIONS.index("click"), "converted": ACTIONS.index("conversion")}
"""Groups of past events: the least action of each."""
DENSE = (
    "log_price",
    *(f"log_{group}" for group in GROUPS),
    *(f"{key}_{group}_count" for group in GROUPS for key in KEYS),
    *(f"{key}_{group}_age" for group in GROUPS for key in KEYS),
)
SCENES = 256
NEVER_DAYS = 365.0
TOLD = "told_{:03d}"
"""Columns of exposures that hold the codes of declared features."""
REPRESENTED = "rep_{:04d}"
"""Columns of exposures that hold what is told of representations."""
_COLUMNS = {"item": "item_id", "category": "category", "brand": "brand", "advertiser": "advertiser"}


def vocabulary(config: RewardConfig) -> tuple[int, ...]:
    """Sizes of the categorical features, in the order of CATEGORICAL."""
    attributes = (config.attribute_buckets,) * 3
    return config.user_buckets, SCENES, 24, 7, config.item_buckets, *attributes


def told_sizes(encoder: FeatureEncoder | None) -> tuple[int, ...]:
    """Sizes of the declared features' columns, those of items last; 0 for a further column of a list, which shares the
    codes of the one before it."""
    features = (*encoder.features, *encoder.items) if encoder else ()
    return tuple(0 if place else one.size for one in features for place in range(one.columns))


def told_columns(count: int) -> tuple[str, ...]:
    """Names of that many columns."""
    return tuple(TOLD.format(place) for place in range(count))


def represented_columns(count: int) -> tuple[str, ...]:
    """Names of that many columns."""
    return tuple(REPRESENTED.format(place) for place in range(count))


@dataclass(frozen=True)
class ItemTable:
    """The catalogue as the reward model sees it."""

    ids: pd.Index
    key_NK: np.ndarray
    """int64, exact codes of each key: equal codes are equal values; -1 where the catalogue says nothing."""
    bucket_NK: np.ndarray
    """int32, hash buckets of the same."""
    price_N: np.ndarray
    """float64, what one conversion is worth; 0 where unknown."""
    told_NF: np.ndarray
    """int32, codes of the declared features of items."""

    @classmethod
    def of(cls, catalogue: pa.Table, config: RewardConfig, told: FeatureEncoder | None = None) -> Self:
        """From a table of CATALOGUE_SCHEMA, and what a model is `told` of its items."""
        frame = catalogue.select(list(_COLUMNS.values())).to_pandas()
        sizes = vocabulary(config)[-len(KEYS) :]
        keys, buckets = [], []
        for key, size in zip(KEYS, sizes, strict=True):
            codes, values = pd.factorize(frame[_COLUMNS[key]])
            hashed = np.append(hash_buckets(values, size - 1) + 1, 0)
            keys.append(codes)
            buckets.append(hashed[codes])
        price_N = np.nan_to_num(catalogue.column("price").to_numpy(zero_copy_only=False).astype(np.float64))
        key_NK, bucket_NK = np.stack(keys, 1), np.stack(buckets, 1).astype(np.int32)
        return cls(pd.Index(frame["item_id"]), key_NK, bucket_NK, price_N.clip(0), item_codes(catalogue, told))

    def rows(self, item_ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """int64 row of each item; -1 where unknown."""
        return np.asarray(self.ids.get_indexer(pd.Index(item_ids, dtype=object)), dtype=np.int64)


@dataclass(frozen=True)
class Past(EventColumns):
    """A user's events, oldest first: rows of the item table, times, actions (index into ACTIONS)."""

    row_H: np.ndarray
    timestamp_H: np.ndarray
    action_H: np.ndarray

    @classmethod
    def of(cls, sequence: UserSequence, row_H: np.ndarray) -> Self:
        """A user's events with known items; `row_H` are the rows of all his events, -1 where unknown."""
        kept = row_H >= 0
        return cls(row_H[kept], sequence.timestamp_H[kept], sequence.action_H[kept])


def pair_features(
    past: Past,
    now_ms: int,
    scene: str,
    user_id: str | None,
    row_n: np.ndarray,
    items: ItemTable,
    config: RewardConfig,
    told: Sequence[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """(categorical int32 [n, C], dense float32 [n, D]) of showing items `row_n` at `now_ms`.

    C is len(CATEGORICAL), in that order, the codes that the request `told`, and those of the items. D is len(DENSE),
    in that order. `past` must hold nothing from `now_ms` on (see `Past.before`).
    """
    n = len(row_n)
    sizes = vocabulary(config)
    user = 0 if user_id is None or sizes[0] < 2 else 1 + int(hash_buckets([user_id], sizes[0] - 1)[0])
    moment = [user, int(hash_buckets([scene], SCENES)[0]), now_ms % DAY_MS // HOUR_MS, (now_ms // DAY_MS + 3) % 7]
    of_items = len(CATEGORICAL) + len(told)
    categorical = np.empty((n, of_items + items.told_NF.shape[1]), dtype=np.int32)
    categorical[:, :4] = moment
    categorical[:, 4 : len(CATEGORICAL)] = items.bucket_NK[row_n]
    categorical[:, len(CATEGORICAL) : of_items] = told
    categorical[:, of_items:] = items.told_NF[row_n]
    same_KHn = items.key_NK[past.row_H].T[:, :, None] == items.key_NK[row_n].T[:, None, :]
    same_KHn &= items.key_NK[row_n].T[:, None, :] >= 0
    age_days_H = (now_ms - past.timestamp_H) / DAY_MS
    dense = np.empty((n, len(DENSE)), dtype=np.float32)
    dense[:, 0] = np.log1p(items.price_N[row_n])
    counts, ages = 1 + len(GROUPS), 1 + len(GROUPS) * (1 + len(KEYS))
    for place, least in enumerate(GROUPS.values()):
        chosen_h = np.flatnonzero(past.action_H >= least)
        same_Khn, keys = same_KHn[:, chosen_h], slice(place * len(KEYS), (place + 1) * len(KEYS))
        age_Kn = np.where(same_Khn, age_days_H[chosen_h][None, :, None], NEVER_DAYS).min(1, initial=NEVER_DAYS)
        dense[:, 1 + place] = np.log1p(len(chosen_h)) / 4
        dense[:, counts:ages][:, keys] = np.log1p(same_Khn.sum(1)).T
        dense[:, ages:][:, keys] = np.log1p(age_Kn).T / 3
    return categorical, dense


def hash_buckets(values: Sequence[str] | np.ndarray | pd.Index, buckets: int) -> np.ndarray:
    """int64 in [0, buckets): the same in every process and on every machine."""
    hashed: np.ndarray = pd.util.hash_array(np.asarray(values, dtype=object), categorize=False)
    return (hashed % np.uint64(max(buckets, 1))).astype(np.int64)
