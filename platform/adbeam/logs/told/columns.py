"""The columns of a log that hold declared features which the model is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from adbeam.errors import UserError
from adbeam.identity.numbers import id_of_number
from adbeam.logs.casts import is_text, plain, to_number, to_text
from adbeam.logs.config import LogsConfig, TableConfig
from adbeam.logs.told.vectors import Problems, to_vectors
from adbeam.targeting.features import LIST_VALUES, MOST_NUMBER, VALUE_BYTES, FeatureConfig, Features

_TYPES = {"category": "string", "number": "number", "list": "string", "vector": "string"}
"""Kinds of features -> types of columns (validate.FEATURE_TYPES); see WORD_END of lists."""
WORD_END = "\x1f"
"""Between the words of a list in a clean event: rows with lists could not be compared as a whole."""
_FIT = {"category": ("string", "integer"), "number": ("number", "integer"), "list": ()}
"""Types under which the log may have declared the column itself."""
ITEM = "item"
OF_ITEMS = {**_FIT, "list": ("string",), "vector": ("string",)}
"""The same of the catalogue, which holds lists and vectors as text."""


def told(features: Features | None, source: str | None = None) -> dict[str, FeatureConfig]:
    """The features that the model is told, by name: all of them, or those of one source."""
    given = sorted((features or {}).items())
    return {name: one for name, one in given if one.model and source in (None, one.source)}


def column_of(name: str, feature: FeatureConfig) -> str:
    """The column of the log that holds a feature."""
    return feature.column or name


def with_columns(table: TableConfig, features: Features | None, source: str, known: Iterable[str]) -> TableConfig:
    """The table, asked for the columns of the features of `source` as well. `known` columns have the contract's names.

    Raises UserError for a column that is already read as something else.
    """
    types: dict[str, str] = dict(table.features)
    for name, feature in told(features, source).items():
        column = column_of(name, feature)
        if column in known:
            raise UserError(
                "is a column of the contract itself",
                field=f"features.{name}.column",
                value=column,
                remedy="the model knows scene, time and user already; copy another column under a name of its own",
            )
        declared = table.features.get(column)
        if declared is not None and declared not in (OF_ITEMS if source == ITEM else _FIT)[feature.kind]:
            raise UserError(
                f"is a {feature.kind}, and the column {column!r} is declared as {declared}",
                field=f"features.{name}",
                remedy="leave the column out of the table's own features, or give it a type that fits",
            )
        types.setdefault(column, _TYPES[feature.kind])
    return table.model_copy(update={"features": types}) if types != table.features else table


def check_known(features: Features | None, schema: pa.Schema, logs: LogsConfig) -> None:
    """Raise UserError for a feature of requests whose column a log's source does not read, or as another kind, and for
    one of users where the log has no table of them."""
    for source in ("request", "user", "item"):
        of_columns: dict[str, str] = {}
        for name, feature in told(features, source).items():
            other = of_columns.setdefault(column_of(name, feature), name)
            if other != name:
                raise UserError(
                    f"reads the same column as {other}",
                    field=f"features.{name}.column",
                    value=column_of(name, feature),
                    remedy="name another column, or keep one of the two",
                )
    if not _has_users(logs):
        for name in told(features, "user"):
            raise UserError(
                "the log has no table of users to learn it from",
                field=f"features.{name}.source",
                value="user",
                remedy="name the table in logs.files.users, or set model: false",
            )
    lacking = f"the log has no such column: source {logs.source} reads {', '.join(schema.names) or 'none'}"
    check_columns(told(features, "request"), schema, lacking, "", pt.is_string)


def check_columns(
    features: Features, schema: pa.Schema, lacking: str, place: str, holds_text: Callable[[pa.DataType], bool]
) -> None:
    """Raise UserError for a feature whose column is not in `schema`, which is called `lacking`, or that is of another
    kind than the column at `place`."""
    for name, feature in features.items():
        column = column_of(name, feature)
        if column not in schema.names:
            remedy = "name one of them, or set model: false"
            raise UserError(lacking, field=f"features.{name}.column", value=column, remedy=remedy)
        kind = schema.field(column).type
        number, text = pt.is_integer(kind) or pt.is_floating(kind), holds_text(kind)
        if not {"category": text or pt.is_integer(kind), "number": number}.get(feature.kind, text):
            raise UserError(
                f"the column {column!r}{place} holds {kind}, which is no {feature.kind}",
                field=f"features.{name}.kind",
                value=feature.kind,
                remedy="give the kind that it is of, or name another column",
            )


def _has_users(logs: LogsConfig) -> bool:
    if logs.source == "files":
        return logs.files is not None and logs.files.users is not None
    return logs.source == "completejourney"


def told_values(values: pa.Array, column: str, feature: FeatureConfig) -> tuple[pa.Array, Problems]:
    """(a column as a request would tell it, (where, reason) of values that no request could tell). Missing values, NaN
    and empty text are null.

    Raises UserError where the column's type holds nothing of the feature's kind.
    """
    if feature.kind == "number":
        number, bad = to_number(values, column)
        beyond = pc.greater(pc.abs(number), MOST_NUMBER)
        return number, [(bad, f"{column} is not a number"), (beyond, f"{column} is beyond reason")]
    if feature.kind == "category":
        text, bad = to_text(_without_nan(values), column)
        too_long = pc.greater(pc.binary_length(text), VALUE_BYTES)
        text = pc.if_else(pc.equal(pc.binary_length(text), 0), None, text)
        return text, [(bad, f"{column} is not text"), (too_long, f"{column} is longer than {VALUE_BYTES} bytes")]
    if feature.kind == "vector":
        return to_vectors(values, column, feature.dimensions or 0)
    lists, bad = _to_list(values, column, feature.separator)
    too_many = pc.greater(pc.list_value_length(lists), LIST_VALUES)
    words = pc.list_flatten(lists)
    too_long = _any_of(lists, pc.greater(pc.binary_length(words), VALUE_BYTES))
    ended = _any_of(lists, pc.match_substring(words, WORD_END))
    return pc.binary_join(lists, WORD_END), [
        (bad, f"{column} is not a list of text"),
        (too_many, f"{column} has more than {LIST_VALUES} values"),
        (too_long, f"{column} has a value longer than {VALUE_BYTES} bytes"),
        (ended, f"{column} has a value with a control character"),
    ]


def _without_nan(values: pa.Array) -> pa.Array:
    if not pt.is_floating(values.type):
        return values
    return pc.if_else(pc.is_nan(values.cast(pa.float64())), None, values)


def _to_list(values: pa.Array, column: str, separator: str) -> tuple[pa.Array, np.ndarray]:
    """(lists of text, which values are none) of lists of text or whole numbers, of text with a separator, or of JSON
    lists in text, which is what lines of JSON hold."""
    values = plain(values)
    kind = values.type
    if pt.is_null(kind):
        return pa.nulls(len(values), pa.list_(pa.string())), np.zeros(len(values), dtype=bool)
    if is_text(kind):
        text, bad = to_text(values, column)
        is_json = pc.fill_null(pc.match_substring_regex(text, r"^\s*\[.*\]\s*$"), False)
        if not pc.any(is_json).as_py():
            return _words(pc.split_pattern(text, separator)), bad
        lists, wrong = _of_json(pc.if_else(is_json, text, None))
        apart = pc.split_pattern(text, separator)
        return _words(pc.if_else(is_json, lists, apart)), bad | wrong
    if not (pt.is_list(kind) or pt.is_large_list(kind)):
        raise UserError("holds no lists", field=column, value=str(kind), remedy="map another column, or convert it")
    values = values.cast(pa.list_(kind.value_type)) if pt.is_large_list(kind) else values
    words, wrong = to_text(values.flatten(), column)
    bad = np.asarray(pc.fill_null(_any_of(values, pa.array(wrong)), False).to_numpy(zero_copy_only=False), dtype=bool)
    return _words(_rebuilt(values, words)), bad


def _of_json(text: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """(lists of text, which values are none) of JSON lists; null in a list is left out, a null stays."""
    coded = text.dictionary_encode()
    lists: list[list[str] | None] = []
    for one in coded.dictionary.to_pylist():
        try:
            lists.append([_word(value) for value in json.loads(one) if value is not None])
        except (ValueError, RecursionError):
            lists.append(None)
    is_none = pa.array([words is None for words in lists], pa.bool_()).take(coded.indices)
    wrong: np.ndarray = pc.fill_null(is_none, False).to_numpy(zero_copy_only=False)
    return pa.array(lists, pa.list_(pa.string())).take(coded.indices), wrong


def _word(value: object) -> str:
    """A value of a JSON list as text; raises ValueError for what is neither text nor a whole number."""
    text = id_of_number(value) or value
    if not isinstance(text, str):
        raise ValueError(f"{value!r} is no word")
    text.encode("utf-8")  # half a surrogate pair is none either
    return text


def _rebuilt(lists: pa.Array, words: pa.Array) -> pa.Array:
    """Lists of the same lengths with other values."""
    length = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(length)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, words)


def _words(lists: pa.Array) -> pa.Array:
    """The lists without empty words and blanks around them; null where nothing is left."""
    owner = pc.list_parent_indices(lists)
    words = pc.utf8_trim_whitespace(pc.list_flatten(lists))
    kept = pc.fill_null(pc.greater(pc.utf8_length(words), 0), False)
    length = np.bincount(owner.filter(kept).to_numpy(zero_copy_only=False), minlength=len(lists))
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    mask = pa.array(length == 0)
    return pa.ListArray.from_arrays(pa.array(offsets), words.filter(kept), mask=mask)


def _any_of(lists: pa.Array, of_values: pa.Array) -> pa.Array:
    """Which lists have a value that is marked."""
    owner = pc.list_parent_indices(lists).filter(pc.fill_null(of_values, False))
    return pa.array(np.bincount(owner.to_numpy(zero_copy_only=False), minlength=len(lists)) > 0)


def word_counts(values: pa.Array, config: FeatureConfig, count_n: np.ndarray) -> Counter[str]:
    """How often each word of a category or list comes, each value counted so often; a word twice in one list is one."""
    counts: Counter[str] = Counter()
    for text, count in zip(values.cast(pa.string()).to_pylist(), count_n.tolist(), strict=True):
        for word in sorted(set(text.split(WORD_END))) if config.kind == "list" else (text,):
            counts[word] += int(count)
    return counts


def kinds_of(features: Features | None, source: str) -> dict[str, FeatureConfig]:
    """{column: its feature} of what is read of one source."""
    return {column_of(name, feature): feature for name, feature in told(features, source).items()}
