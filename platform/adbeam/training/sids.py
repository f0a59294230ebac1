"""Semantic IDs by item id, as two sorted arrays that every data task of a node shares without a copy.

Shapes: N items, H looked-up items, T SID levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.errors import UserError


@dataclass(frozen=True)
class SidTable:
    """`key_N` are 64-bit hashes of the item ids in rising order, `code_NT` their codes."""

    key_N: np.ndarray
    code_NT: np.ndarray

    @classmethod
    def of(cls, item_ids: np.ndarray, code_NT: np.ndarray) -> Self:
        """The table of these items; raises UserError when two different ids share a hash."""
        key_N = _hash(item_ids)
        order = np.argsort(key_N, kind="stable")
        key_N = key_N[order]
        if len(key_N) and (key_N[1:] == key_N[:-1]).any():
            raise UserError("two items of the catalogue have the same id or hash", remedy="make the item ids unique")
        return cls(key_N, np.ascontiguousarray(code_NT[order]))

    @classmethod
    def read(cls, path: str | Path, levels: int) -> Self:
        """The table in a `sids.parquet`; raises UserError when its SIDs do not have `levels` levels."""
        table = pq.read_table(path, columns=["item_id", "sid"])
        codes = table.column("sid").combine_chunks()
        flat = pa.compute.list_flatten(codes).to_numpy(zero_copy_only=False)
        if len(flat) != levels * len(table):
            raise UserError(
                f"{path} holds semantic IDs of another length",
                field="model.codebooks",
                value=f"{levels} levels",
                remedy="tokenize again with this configuration",
            )
        ids = table.column("item_id").to_numpy()
        return cls.of(ids, flat.reshape(-1, levels).astype(np.int32))

    def lookup(self, item_H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(codes [H, T], known [H]); the codes of an unknown item are 0."""
        if not len(item_H) or not len(self.key_N):
            return np.zeros((len(item_H), self.code_NT.shape[1]), dtype=np.int32), np.zeros(len(item_H), dtype=bool)
        key_H = _hash(item_H)
        place_H = np.searchsorted(self.key_N, key_H).clip(max=len(self.key_N) - 1)
        known_H = self.key_N[place_H] == key_H
        return np.where(known_H[:, None], self.code_NT[place_H], 0), known_H


def _hash(item_ids: np.ndarray) -> np.ndarray:
    """uint64; the same in every process and on every machine."""
    return pd.util.hash_array(np.asarray(item_ids, dtype=object), categorize=True)
