"""The catalogue as the foundation sees it: buckets of id and attributes, and the price. Numpy and pandas only.

Shapes: N items, K item keys (item, category, brand, advertiser).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa

from adbeam.foundation.config import FoundationConfig
from adbeam.records import ItemKind

KEYS = ("item_id", "category", "brand", "advertiser")
UNKNOWN = 0
"""Bucket of an id or a value that nothing is known of."""


@dataclass(frozen=True)
class Items:
    """All items of a catalogue."""

    ids: pd.Index
    bucket_NK: np.ndarray
    """int32, 1 + hash bucket of each key; UNKNOWN where the catalogue says nothing."""
    price_N: np.ndarray
    """float32, log(1 + price); 0 where unknown."""
    organic_N: np.ndarray
    """bool, items that users find on their own."""

    @classmethod
    def of(cls, catalogue: pa.Table, config: FoundationConfig) -> Self:
        """From a table of CATALOGUE_SCHEMA."""
        frame = catalogue.select([*KEYS, "price", "kind"]).to_pandas()
        sizes = (config.item_buckets, *(config.attribute_buckets,) * 3)
        bucket_NK = np.stack([_buckets(frame[key], size) for key, size in zip(KEYS, sizes, strict=True)], 1)
        price_N = np.log1p(np.nan_to_num(frame["price"].to_numpy(np.float64)).clip(0)).astype(np.float32)
        return cls(pd.Index(frame["item_id"]), bucket_NK, price_N, (frame["kind"] == ItemKind.ORGANIC.value).to_numpy())

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, item_ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """int64 row of each item; -1 where unknown."""
        return np.asarray(self.ids.get_indexer(pd.Index(item_ids, dtype=object)), dtype=np.int64)


def bucket_of(text: str, size: int) -> int:
    """1 + hash bucket of an id, in [1, size): the same in every process and on every machine."""
    return int(_hashed(np.array([text], object), size)[0])


def _buckets(values: pd.Series, size: int) -> np.ndarray:
    codes, distinct = pd.factorize(values)
    hashed: np.ndarray = np.append(_hashed(np.asarray(distinct, object), size), UNKNOWN)[codes].astype(np.int32)
    return hashed


def _hashed(values: np.ndarray, size: int) -> np.ndarray:
    key_N: np.ndarray = pd.util.hash_array(values, categorize=False)
    return (key_N % np.uint64(size - 1)).astype(np.int64) + 1
