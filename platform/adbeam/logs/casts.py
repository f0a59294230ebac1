"""Whole columns to the types of the contract; a value that does not fit is marked, never fatal.

Each function takes an Arrow array of any type a file may bring and returns the converted array together with a boolean
numpy array of the values that could not be converted. Missing values are null in the result and not marked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from adbeam.errors import UserError

Marked = tuple[pa.Array, np.ndarray]
NO_NUMBER = ("", "-", "\\n", "#n/a", "n/a", "na", "nan", "nil", "none", "null")
"""Words, in lower case, that writers put where a column of numbers has none."""


def as_rows(raw: pa.Table) -> list[dict[str, Any]]:
    """Rows of Python values; a moment or date that Python cannot hold (the year 10000) becomes its number."""
    try:
        rows: list[dict[str, Any]] = raw.to_pylist()
        return rows
    except (OverflowError, ValueError):
        columns = [[_as_value(scalar) for scalar in column] for column in raw.columns]
        return [dict(zip(raw.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _as_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        return getattr(scalar, "value", f"a {scalar.type} that cannot be shown")


def to_text(values: pa.Array, column: str) -> Marked:
    """Text as it is, whole numbers of any type as digits; a float too large to tell neighbours apart is marked."""
    values = plain(values)
    kind = values.type
    if pt.is_null(kind):
        return pa.nulls(len(values), pa.string()), none_marked(values)
    if pt.is_floating(kind):
        rounded = rounded_ids(values)
        whole, bad = cast_or_mark(_blank(values, rounded), pa.int64())
        return whole.cast(pa.string()), bad | rounded
    if pt.is_decimal(kind):
        digits = pa.decimal256(76, 0) if pt.is_decimal256(kind) else pa.decimal128(38, 0)
        whole, bad = cast_or_mark(values, digits)
        return whole.cast(pa.string()), bad
    if is_text(kind) or pt.is_integer(kind):
        return cast_or_mark(values, pa.string())
    raise UserError("holds no text", field=column, value=str(kind), remedy="map another column, or convert it")


def rounded_ids(values: pa.Array) -> np.ndarray:
    """Where a column of floats holds whole numbers so large that several ids may have become one number."""
    values = plain(values)
    if not pt.is_floating(values.type):
        return none_marked(values)
    numbers = pc.fill_null(values.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    beyond: np.ndarray = np.isfinite(numbers) & (np.abs(numbers) >= exact_below(values.type))
    return beyond


def exact_below(kind: pa.DataType) -> int:
    """The first whole number of the float type `kind` that more than one whole number is rounded to."""
    return int(2 ** (np.finfo(kind.to_pandas_dtype()).nmant + 1))


def to_number(values: pa.Array, column: str) -> Marked:
    """Finite float64; NaN and the words of NO_NUMBER are missing, infinity is marked."""
    values = plain(values)
    bad = none_marked(values)
    if is_text(values.type):
        text, bad = cast_or_mark(values, pa.string())
        values, not_numeric = _read_numbers(pc.utf8_trim_whitespace(text))
        bad = bad | not_numeric
    elif pt.is_decimal(values.type):
        values = values.cast(pa.string()).cast(pa.float64())  # Arrow's own cast misses the nearest float by a bit
    elif _is_numeric(values.type):
        values = values.cast(pa.float64(), safe=False)
    else:
        raise UserError("holds no numbers", field=column, value=str(values.type), remedy="map another column")
    numbers = pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False)
    return _blank(values, ~np.isfinite(numbers)), bad | np.isinf(numbers)


def _read_numbers(text: pa.Array) -> Marked:
    try:
        return text.cast(pa.float64()), none_marked(text)
    except pa.ArrowInvalid:
        no_number = pc.is_in(pc.utf8_lower(text), value_set=pa.array(NO_NUMBER))
        return cast_or_mark(pc.if_else(no_number, None, text), pa.float64())


def to_whole(values: pa.Array, column: str, target: pa.DataType) -> Marked:
    """Whole numbers of the integer type `target`."""
    numbers, bad = to_number(values, column)
    whole, not_whole = cast_or_mark(numbers, target)
    return whole, bad | not_whole


def to_boolean(values: pa.Array, column: str) -> Marked:
    """Booleans, also from 0 and 1 or the words true and false."""
    values = plain(values)
    if is_text(values.type):
        text, bad = cast_or_mark(values, pa.string())
        truth, not_truth = cast_or_mark(text, pa.bool_())
        return truth, bad | not_truth
    if pt.is_boolean(values.type) or pt.is_null(values.type) or pt.is_integer(values.type):
        return cast_or_mark(values, pa.bool_())
    raise UserError("holds no booleans", field=column, value=str(values.type), remedy="map another column")


def cast_or_mark(values: pa.Array, target: pa.DataType) -> Marked:
    """Cast; where a value does not fit, halve until it stands alone. Cheap as long as few values are bad."""
    try:
        return values.cast(target), none_marked(values)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, target), np.ones(1, dtype=bool)
    middle = len(values) // 2
    left, left_bad = cast_or_mark(values[:middle], target)
    right, right_bad = cast_or_mark(values[middle:], target)
    return pa.concat_arrays([left, right]), np.concatenate([left_bad, right_bad])


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values


def plain(values: pa.Array) -> pa.Array:
    """Without a dictionary."""
    return values.dictionary_decode() if pt.is_dictionary(values.type) else values


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds text, or bytes that may be."""
    return bool(
        pt.is_string(kind)
        or pt.is_large_string(kind)
        or pt.is_string_view(kind)
        or pt.is_binary(kind)
        or pt.is_large_binary(kind)
    )


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind))


def none_marked(values: pa.Array) -> np.ndarray:
    """No value of these is bad."""
    return np.zeros(len(values), dtype=bool)


def _blank(values: pa.Array, where: np.ndarray) -> pa.Array:
    return pc.if_else(pa.array(where), None, values) if where.any() else values
