"""Semantic IDs by item id, for histories: one table for training, evaluation and serving.

Two sorted arrays, so that every process of a node can share them without a copy. What a replica learns while it serves
lies beside them, in a dictionary of its own. Shapes: N items, H looked-up items, T SID levels, K columns of codes of
declared features of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.declared.encoder import FeatureEncoder
from adbeam.errors import UserError
from adbeam.logs.told.items import item_codes

MANY = 10_000
"""Ids from which on hashing each distinct one once is the faster way."""


class SidTable:
    """`key_N` are 64-bit hashes of the item ids in rising order, `code_NT` their codes."""

    def __init__(self, key_N: np.ndarray, code_NT: np.ndarray, told_NK: np.ndarray | None = None) -> None:
        self.key_N, self.code_NT, self.told_NK = key_N, code_NT, told_NK
        self._added: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    @classmethod
    def of(cls, item_ids: Sequence[str] | np.ndarray, code_NT: np.ndarray) -> Self:
        """The table of these items; raises UserError when two different ids share a hash."""
        key_N = _hash(item_ids)
        order = np.argsort(key_N, kind="stable")
        key_N = key_N[order]
        if len(key_N) and (key_N[1:] == key_N[:-1]).any():
            raise UserError("two items of the catalogue have the same id or hash", remedy="make the item ids unique")
        return cls(key_N, np.ascontiguousarray(code_NT[order]))

    @classmethod
    def of_catalogue(cls, table: pa.Table, levels: int) -> Self:
        """The table of the rows that have a SID; raises UserError when it does not have `levels` levels."""
        table = table.filter(pc.is_valid(table.column("sid")))
        flat = pc.list_flatten(table.column("sid").combine_chunks()).to_numpy(zero_copy_only=False)
        if len(flat) != levels * len(table):
            raise UserError(
                "the catalogue holds semantic IDs of another length",
                field="model.codebooks",
                value=f"{levels} levels",
                remedy="tokenize again with this configuration",
            )
        ids = table.column("item_id").to_numpy()
        return cls.of(ids, flat.reshape(-1, levels).astype(np.int32))

    @classmethod
    def read(cls, path: str | Path, levels: int) -> Self:
        """The table in a `sids.parquet`; raises UserError when its SIDs do not have `levels` levels."""
        return cls.of_catalogue(pq.read_table(path, columns=["item_id", "sid"]), levels)

    def __len__(self) -> int:
        return len(self.key_N)

    def told_of(self, item_ids: Sequence[str] | np.ndarray, code_RK: np.ndarray) -> Self:
        """The same table, told the declared features of items as well; those of other items are missing."""
        key_R = _hash(item_ids)
        order_R = np.argsort(key_R, kind="stable")
        place_N = np.searchsorted(key_R[order_R], self.key_N).clip(max=max(len(key_R) - 1, 0))
        told_NK = np.zeros((len(self), code_RK.shape[1]), np.int32)
        if len(key_R):
            found_N = key_R[order_R[place_N]] == self.key_N
            told_NK[found_N] = code_RK[order_R[place_N[found_N]]]
        return type(self)(self.key_N, self.code_NT, told_NK)

    def put(self, item_id: str, sid: Sequence[int], told: Sequence[int] = ()) -> None:
        """Know an item, or know it under another SID, from now on; a reader in another thread sees all of it or none"""
        self._added[item_id] = tuple(int(code) for code in sid), tuple(int(code) for code in told)

    def lookup(self, item_H: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(codes int32 [H, T], known bool [H]); the codes of an unknown item are 0."""
        code_HX, known_H = self.describe(item_H)
        return code_HX[:, : self.code_NT.shape[1]], known_H

    def describe(self, item_H: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `lookup`, with the K codes of the declared features behind the SID where the table is told any."""
        levels = self.code_NT.shape[1]
        code_HT = np.zeros((len(item_H), levels + (0 if self.told_NK is None else self.told_NK.shape[1])), np.int32)
        known_H = np.zeros(len(item_H), bool)
        if len(item_H) and len(self.key_N):
            key_H = _hash(item_H)
            place_H = np.searchsorted(self.key_N, key_H).clip(max=len(self.key_N) - 1)
            known_H = self.key_N[place_H] == key_H
            code_HT[known_H, :levels] = self.code_NT[place_H[known_H]]
            if self.told_NK is not None:
                code_HT[known_H, levels:] = self.told_NK[place_H[known_H]]
        if self._added:
            for place, item_id in enumerate(item_H):
                added = self._added.get(item_id)
                if added is not None:
                    code_HT[place, :levels], code_HT[place, levels:], known_H[place] = *added, True
        return code_HT, known_H


def _hash(item_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """uint64; the same in every process and on every machine."""
    ids = np.asarray(item_ids, dtype=object)
    key_H: np.ndarray = pd.util.hash_array(ids, categorize=len(ids) >= MANY)
    return key_H


def with_items_told(sids: SidTable, items: pa.Table, encoder: FeatureEncoder | None) -> SidTable:
    """The same table, told the declared features of a catalogue's items where there are any."""
    if encoder is None or not encoder.items:
        return sids
    return sids.told_of(items["item_id"].to_numpy(), item_codes(items, encoder))
