"""A file's columns and words under the contract's names: renamed, translated, filled with constants."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from adbeam.errors import UserError
from adbeam.identity.people import NOBODY_WORDS
from adbeam.logs.casts import NO_NUMBER, cast_or_mark, is_text, plain, rounded_ids, to_number, whole
from adbeam.logs.config import TableConfig
from adbeam.logs.ids.joined import joined_ids
from adbeam.logs.tables.discovery import partition_values

_MONEY = ("price", "bid", "ecpm")
_NUMBER = r"^\s*[-+]?[0-9.,]+([eE][-+]?[0-9]+)?\s*$"
_GROUPED = r"^\s*[-+]?[0-9]{1,3}(\.[0-9]{3})+,[0-9]+\s*$"
_WHOLE_WITH_COMMA = r"^(\s*[-+]?[0-9]+),(0+\s*)$"
ACTION_COLUMN = "actions.{}"
"""What the column of an action is called until its events are made."""
_NO_DECIMAL = " (a point where decimals have a comma)"


def to_contract(
    table: pa.Table, config: TableConfig, path: Path, decimal: str, nobody_words: Collection[str] = NOBODY_WORDS
) -> pa.Table:
    """Our names for the mapped columns, our words for the mapped values; constants where a column is absent or null.

    A mapped column that the file lacks may be the name of one of its folders; a column that has our name by chance does
    not stand in for it. `decimal` is the sign before decimals; of a user of several columns `nobody_words` mean nobody.
    """
    table = _with_partitions(_without_doubled(table), config, path)
    renamed = config.renamed
    mapped = {*config.columns, *renamed.values()}
    arrays = {name: table.column(name) for name in table.column_names if name not in mapped}
    arrays |= {ours: table.column(theirs) for ours, theirs in renamed.items() if theirs in table.column_names}
    arrays |= {
        ours: joined_ids(
            [_part(table, name) for name in names], ours, nobody_words if ours == "user_id" else NOBODY_WORDS
        )
        for ours, names in config.joined.items()
    }
    arrays |= {
        ACTION_COLUMN.format(action): table.column(theirs)
        for action, theirs in config.actions.items()
        if theirs in table.column_names
    }
    if decimal == ",":
        arrays |= {name: _with_points(arrays[name]) for name in numbers_of(config) if name in arrays}
        arrays |= {name: _without_zeros(arrays[name]) for name in _wholes_of(config) if name in arrays}
    arrays |= {
        money: _scaled(arrays[money], factor, money) for money, factor in config.scale.items() if money in arrays
    }
    for name, translation in config.values.items():
        if name in arrays:
            arrays[name] = _translated(arrays[name], translation, name)
    numbers = {*numbers_of(config), *_wholes_of(config)}
    for name, value in config.constants.items():
        known = _known_numbers(arrays[name]) if name in arrays and name in numbers else arrays.get(name)
        arrays[name] = _filled(known, value, table.num_rows, name)
    return pa.table(arrays)


def numbers_of(config: TableConfig) -> tuple[str, ...]:
    """Our names of the columns that may have decimals."""
    return (*_MONEY, *(name for name, kind in config.features.items() if kind == "number"))


def _wholes_of(config: TableConfig) -> tuple[str, ...]:
    return ("position", *(name for name, kind in config.features.items() if kind == "integer"))


def _without_doubled(table: pa.Table) -> pa.Table:
    names = table.column_names
    if len(set(names)) == len(names):
        return table
    return table.select([place for place, name in enumerate(names) if names.count(name) == 1])


def _with_partitions(table: pa.Table, config: TableConfig, path: Path) -> pa.Table:
    wanted = set(config.asked_for) - set(table.column_names)
    for name, value in partition_values(path).items() if wanted else ():
        if name in wanted:
            table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
    return table


def _with_points(column: pa.ChunkedArray) -> pa.Array:
    """Numbers with a decimal comma as text with a point; 1.234 could be either and becomes no number."""
    values = _whole(column)
    if not (pt.is_binary(values.type) or pt.is_string(values.type)):
        return values
    text, bad = cast_or_mark(values, pa.string())
    pointed = pc.match_substring(text, ".")
    bare = pc.replace_substring(pc.if_else(pointed, pc.replace_substring(text, ".", ""), text), ",", ".")
    doubtful = pc.and_(pointed, pc.invert(pc.match_substring_regex(text, _GROUPED)))
    bare = pc.if_else(doubtful, pc.binary_join_element_wise(text, "", _NO_DECIMAL), bare)
    as_read = pc.if_else(pc.match_substring_regex(text, _NUMBER), bare, text).cast(values.type)
    return pc.if_else(pa.array(bad), values, as_read)


def _without_zeros(column: pa.ChunkedArray) -> pa.Array:
    """Whole numbers that were written as decimals (7,0) as such with a point; everything else as it is."""
    values = _whole(column)
    if not (pt.is_binary(values.type) or pt.is_string(values.type)):
        return values
    text, bad = cast_or_mark(values, pa.string())
    pointed = pc.replace_substring_regex(text, _WHOLE_WITH_COMMA, r"\1.\2").cast(values.type)
    return pc.if_else(pa.array(bad), values, pointed)


def _part(table: pa.Table, name: str) -> pa.Array:
    return _whole(table.column(name)) if name in table.column_names else pa.nulls(table.num_rows)


def _scaled(column: pa.ChunkedArray | pa.Array, factor: float, name: str) -> pa.Array:
    """Amounts times a factor; what is no number stays as it is, for validation to judge."""
    values = _whole(column)
    numbers, bad = to_number(values, name)
    parts = round(1 / factor)  # 1234 / 100 is 12.34, and 1234 * 0.01 may be a hair beside it
    is_part = parts > 1 and math.isclose(parts * factor, 1, rel_tol=1e-12)
    amounts = pc.divide(numbers, float(parts)) if is_part else pc.multiply(numbers, factor)
    if not bad.any():
        return amounts
    raw = values if is_text(values.type) else values.cast(pa.string())
    return pc.if_else(pa.array(bad), raw.cast(pa.binary()), amounts.cast(pa.string()).cast(pa.binary()))


def _translated(column: pa.ChunkedArray, translation: dict[str, str], name: str) -> pa.Array:
    """Named values replaced; every other value stays as it is, be it text or not."""
    values = _whole(column)
    if not (pt.is_binary(values.type) or pt.is_string(values.type)):
        values = _as_words(values, name)
    kind = values.type
    spelled = {**_any_case(translation), **translation}
    keys, words = (_of_kind(texts, kind) for texts in (spelled, spelled.values()))
    return pc.coalesce(words.take(pc.index_in(values, value_set=keys)), values)


def _of_kind(texts: Iterable[str], kind: pa.DataType) -> pa.Array:
    return pa.array([text.encode() for text in texts], pa.binary()).cast(kind)


def _any_case(translation: dict[str, str]) -> dict[str, str]:
    """true and false as other writers spell them."""
    found = {key: ours for key, ours in translation.items() if key.lower() in ("true", "false")}
    return {form: ours for key, ours in found.items() for form in (key.lower(), key.title(), key.upper())}


def _as_words(values: pa.Array, name: str) -> pa.Array:
    """Values of another type as text: whole numbers as digits, ids that a float has rounded as nothing."""
    if pt.is_nested(values.type):
        raise UserError("holds no text", field=name, value=str(values.type), remedy="map another column")
    text = values.cast(pa.string())
    if not pt.is_floating(values.type):
        return text
    whole, bad = cast_or_mark(values, pa.int64())
    text = pc.if_else(pa.array(bad), text, whole.cast(pa.string()))
    return pc.if_else(pa.array(rounded_ids(values)), None, text) if name.endswith("_id") else text


def _known_numbers(column: pa.ChunkedArray) -> pa.Array:
    """A column of numbers with nulls for NaN and for the words that writers put where there is none."""
    values = _whole(column)
    if pt.is_floating(values.type):
        return pc.if_else(pc.is_nan(values.cast(pa.float64())), None, values)
    if not (pt.is_binary(values.type) or pt.is_string(values.type)):
        return values
    text, bad = cast_or_mark(values, pa.string())
    none = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(text)), value_set=pa.array(NO_NUMBER))
    return pc.if_else(pc.and_(none, pc.invert(pa.array(bad))), None, values)


def _filled(column: pa.ChunkedArray | pa.Array | None, value: Any, rows: int, name: str) -> Any:
    """The column with `value` where it is null, in a type that holds both as they were written."""
    if column is None or pt.is_null(column.type):
        return pa.repeat(pa.scalar(value), rows)
    if not column.null_count:
        return column
    column = _whole(column)
    if pt.is_binary(column.type):
        return column.fill_null(pa.scalar(_word(value).encode(), column.type))
    is_number = pt.is_integer(column.type) or pt.is_floating(column.type) or pt.is_decimal(column.type)
    if is_number and isinstance(value, float) and not isinstance(value, bool):
        return column.cast(pa.float64()).fill_null(value)
    try:
        return column.fill_null(pa.scalar(value, type=column.type))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return _as_words(column, name).fill_null(_word(value))


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column in one piece, a dictionary's values in its place."""
    return plain(whole(column))
