"""Dense vectors in columns of a log: lists of numbers, or text with them in JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from adbeam.errors import UserError
from adbeam.logs.casts import is_text, plain

Problems = list[tuple[pa.Array | np.ndarray, str]]


def to_vectors(values: pa.Array, column: str, dimensions: int) -> tuple[pa.Array, Problems]:
    """(lists of `dimensions` finite numbers, null where there is none, (where, reason) of values that are no such).

    Raises UserError where the column's type holds no vectors.
    """
    values = plain(values)
    lists = pt.is_list(values.type) or pt.is_large_list(values.type) or pt.is_fixed_size_list(values.type)
    if not (lists or is_text(values.type) or pt.is_null(values.type)):
        raise UserError(
            "holds no vectors", field=column, value=str(values.type), remedy="map another column, or convert it"
        )
    found: list[list[float] | None] = []
    wrong = np.zeros(len(values), dtype=bool)
    for place, value in enumerate(values.to_pylist()):
        if isinstance(value, str):
            value = _parsed(value) if value.strip() else None
        vector = None if value is None else _finite(value, dimensions)
        wrong[place] = value is not None and vector is None
        found.append(vector)
    return pa.array(found, pa.list_(pa.float64())), [(wrong, f"{column} is not a vector of {dimensions} numbers")]


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _finite(value: object, dimensions: int) -> list[float] | None:
    if not isinstance(value, list) or len(value) != dimensions:
        return None
    if any(isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one) for one in value):
        return None
    return [float(one) for one in value]
