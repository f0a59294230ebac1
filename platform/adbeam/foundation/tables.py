"""Tables of representations by id and moment, and what may be read of them at a moment.

`as_of` reads the newest state strictly before a moment: nothing later than the row is in it. `snapshot` reads the last
state there is, as the paper's public code does: a row's own outcome and its future are in it, so gains are not real.

Shapes: B questions, R states, E width.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from adbeam import artifacts
from adbeam.foundation.aggregate import Decay, decay_of, normalised
from adbeam.foundation.config import RepresentConfig

USERS, ITEMS, CONTENT, SETTINGS = "users", "items", "content", "representations.json"
BESIDE = 2
"""Numbers that stand beside a vector: log(1 + weight), and whether it is known."""
Point = Literal["as_of", "snapshot"]
log = logging.getLogger(__name__)


def states_table(ids: Sequence[str], time_R: np.ndarray, weight_R: np.ndarray, mean_RE: np.ndarray) -> pa.Table:
    """States as they are stored."""
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(mean_RE, np.float32).reshape(-1)), mean_RE.shape[1]
    )
    return pa.table({"id": pa.array(ids, pa.string()), "time_ms": pa.array(time_R, pa.int64()),
                     "weight": pa.array(weight_R, pa.float64()), "mean": vectors})  # fmt: skip


@dataclass(frozen=True)
class StateTable:
    """States by id, those of one id in the order of their time."""

    ids: pd.Index
    start_U: np.ndarray
    """Row of the first state of each id, and the number of all rows."""
    time_R: np.ndarray
    weight_R: np.ndarray
    mean_RE: np.ndarray
    decay: Decay

    @classmethod
    def of(cls, table: pa.Table, decay: Decay) -> Self:
        """From what `states_table` made, in any order."""
        table = table.sort_by([("id", "ascending"), ("time_ms", "ascending")])
        names = table.column("id").to_numpy()
        ids, start_U = np.unique(names.astype(str), return_index=True)
        mean_RE = pc.list_flatten(table.column("mean")).to_numpy().reshape(len(table), -1)
        time_R, weight_R = (table.column(name).to_numpy() for name in ("time_ms", "weight"))
        starts = np.append(start_U, len(table))
        return cls(pd.Index(ids.astype(object)), starts, time_R, weight_R, mean_RE, decay)

    def look_up(
        self, ids: Sequence[str | None], now_ms_B: np.ndarray, point: Point = "as_of"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(vectors float32 [B, E], log(1 + weight) float32 [B], known bool [B]); vectors of unknown ids are 0."""
        place_B = self.ids.get_indexer(pd.Index([one if one is not None else "" for one in ids], dtype=object))
        row_B = np.array(
            [self._row(int(place), int(now), point) for place, now in zip(place_B, now_ms_B, strict=True)], np.int64
        )
        known_B = row_B >= 0
        vector_BE = np.zeros((len(row_B), self.mean_RE.shape[1]), np.float32)
        weight_B = np.zeros(len(row_B), np.float32)
        chosen_b = row_B[known_B]
        if len(chosen_b):
            vector_BE[known_B] = normalised(self.mean_RE[chosen_b])
            now_ms_b = np.asarray(now_ms_B)[known_B]
            weight_B[known_B] = np.log1p(self.decay.faded(self.weight_R[chosen_b], self.time_R[chosen_b], now_ms_b))
        return vector_BE, weight_B, known_B

    def _row(self, place: int, now_ms: int, point: Point) -> int:
        if place < 0:
            return -1
        start, end = int(self.start_U[place]), int(self.start_U[place + 1])
        if point == "as_of":
            end = start + int(np.searchsorted(self.time_R[start:end], now_ms, side="left"))
        return end - 1 if end > start else -1


@dataclass(frozen=True)
class Representations:
    """What `adbeam represent` published."""

    users: StateTable
    """CR(u)."""
    items: StateTable
    """CR(i), a state a day."""
    content: StateTable
    """IR of every item of the catalogue: from content alone where training never saw it."""
    version: str
    """Of the foundation: another version is another space."""
    fingerprint: str

    @classmethod
    def open(cls, folder: str | Path, point: Point = "as_of") -> Self:
        """Raises UserError when the folder is missing or altered; warns where `point` leaks."""
        folder = Path(folder)
        manifest = artifacts.read_manifest(folder)
        stored: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        decay = decay_of(RepresentConfig.parse(stored["config"], source=str(folder / SETTINGS)))
        if point == "snapshot":
            log.warning("representations are read as a snapshot: what a row is judged by and its future are in them")
        users, items, content = (
            StateTable.of(ds.dataset(folder / name).to_table(), decay) for name in (USERS, ITEMS, CONTENT)
        )
        return cls(users, items, content, stored["version"], str(manifest["fingerprint"]))
