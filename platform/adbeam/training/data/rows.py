"""A training row: one request with its context and targets, as fixed-size arrays of small numbers.

In memory rows are a numpy structured array; on disk each field is a fixed-size binary column of Parquet, so that
reading is a copy of bytes and not a parse. Knows neither torch nor Ray: data tasks start fast.

Shapes: N rows (and N trending ads), S context length, T SID levels, F static features, C token features, M targets.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig


@dataclass(frozen=True)
class RowFormat:
    """Sizes that fix the fields of a row."""

    static: int
    token: int
    context_length: int
    levels: int
    targets: int
    wide_static: bool
    wide_codes: bool
    trending: int = 0
    trend: int = 0
    short_length: int = 0
    """Places of the context behind the static token that are of the short pathway."""
    wide_token: bool = False
    """Whether token features need more than a byte each."""
    prefixes: bool = False
    """Whether a row is a user, and each target sees as many tokens as stand beside it."""
    later: int = 0
    """Places for ads that came after the request, which further prediction heads learn; `targets` counts them too."""

    @classmethod
    def of(cls, model: ModelConfig, targets: int, *, prefixes: bool = False) -> Self:
        """The rows of a model of this shape with up to `targets` targets; with `prefixes` as many as a short pathway
        holds events."""
        spec, later = FeatureSpec.of(model), len(model.mixture) - 1
        return cls(
            static=len(spec.static_sizes),
            token=len(spec.token_sizes),
            context_length=spec.context_length,
            levels=model.levels,
            targets=spec.short_length if prefixes else targets + later,
            wide_static=max(spec.static.values()) > np.iinfo(np.int16).max,
            wide_codes=max(model.codebooks) > np.iinfo(np.int16).max,
            trending=spec.trending_length,
            trend=len(spec.trend),
            short_length=spec.short_length,
            wide_token=spec.wide_token,
            prefixes=prefixes,
            later=later,
        )

    @property
    def dtype(self) -> np.dtype:
        """One row."""
        code = np.int32 if self.wide_codes else np.int16
        trends = [
            ("trend_code_NT", code, (self.trending, self.levels)),
            ("trend_feature_NC", np.uint8, (self.trending, self.trend)),
        ]
        return np.dtype(
            [
                ("static_F", np.int32 if self.wide_static else np.int16, (self.static,)),
                ("code_ST", code, (self.context_length, self.levels)),
                ("feature_SC", np.int32 if self.wide_token else np.uint8, (self.context_length, self.token)),
                ("target_MT", code, (self.targets, self.levels)),
                ("value_M", np.float32, (self.targets,)),
                ("weight_M", np.float32, (self.targets,)),
                ("user_value", np.float32),
                *([("head_M", np.uint8, (self.targets,))] if self.later else []),
                *([("visible_M", np.int16, (self.targets,))] if self.prefixes else []),
                *(trends if self.trending else []),
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """What the manifest stores; `RowFormat(**stored)` reads it."""
        stored = asdict(self)
        return {
            name: value for name, value in stored.items() if value or name not in ("wide_token", "prefixes", "later")
        }

    def to_table(self, row_N: np.ndarray) -> pa.Table:
        """Rows as one fixed-size binary column a field."""
        return pa.table({name: _to_column(row_N[name], self.dtype[name].itemsize) for name in self._names})

    def from_table(self, table: pa.Table) -> dict[str, np.ndarray]:
        """Field name -> array [N, ...] of what `to_table` wrote; views where the column is one piece."""
        return {name: _from_column(table.column(name), self.dtype[name]) for name in self._names}

    def sizes(self, table: pa.Table) -> np.ndarray:
        """int64 [N, 2]: how many context tokens and how many targets each row holds."""
        code_NST = _from_column(table.column("code_ST"), self.dtype["code_ST"])
        weight_NM = _from_column(table.column("weight_M"), self.dtype["weight_M"])
        return np.stack([(code_NST[:, :, 0] >= 0).sum(axis=1), targets_of(weight_NM)], axis=1)

    @property
    def _names(self) -> tuple[str, ...]:
        names = self.dtype.names
        assert names is not None
        return names


def targets_of(weight_NM: np.ndarray) -> np.ndarray:
    """int64 [N]: target columns that each row needs; a weight of 0 after them is padding."""
    column_NM: np.ndarray = (weight_NM > 0) * np.arange(1, weight_NM.shape[1] + 1)
    targets_N: np.ndarray = column_NM.max(axis=1, initial=0)
    return targets_N


def _to_column(values: np.ndarray, width: int) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, buffer])


def _from_column(column: pa.ChunkedArray, dtype: np.dtype) -> np.ndarray:
    parts = [_from_piece(piece, dtype) for piece in column.chunks]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty((0, *dtype.shape), dtype.base)


def _from_piece(piece: pa.Array, dtype: np.dtype) -> np.ndarray:
    start = piece.offset * dtype.itemsize
    values = np.frombuffer(piece.buffers()[1], dtype=np.uint8, count=len(piece) * dtype.itemsize, offset=start)
    return values.view(dtype.base).reshape(len(piece), *dtype.shape)
