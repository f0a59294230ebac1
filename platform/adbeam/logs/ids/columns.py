"""Columns of ids: text as it is, numbers as their shortest exact text, what is no id marked with its reason."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from adbeam.identity.people import NOBODY_WORDS, USER_ID_MAX, USER_ID_READ, digest_of
from adbeam.logs.casts import exact_below, rounded_ids, to_text

Problems = list[tuple[np.ndarray, str]]
"""(where, reason) of values that are no ids; of a value with several reasons the first counts."""

ID_COLUMNS = ("user_id", "item_id", "event_id", "request_id")
NOBODY = "user_id means nobody"


def id_texts(values: pa.Array, column: str) -> tuple[pa.Array, Problems]:
    """The ids of a column of any type; missing ones and NaN are null and no problem."""
    values = values.dictionary_decode() if pt.is_dictionary(values.type) else values
    kind = values.type
    if pt.is_boolean(kind) or pt.is_temporal(kind) or pt.is_nested(kind):
        return pa.nulls(len(values), pa.string()), [(_mask(values.is_valid()), f"{column} is a {kind}, which is no id")]
    problems: Problems = []
    if pt.is_floating(kind):
        values = pc.if_else(pc.is_nan(values.cast(pa.float64())), None, values)
        problems.append((rounded_ids(values), rounded_reason(column, kind)))
    text, bad = to_text(values, column)
    return text, [*problems, (bad, f"{column} is not text")]


def rounded_reason(column: str, kind: pa.DataType) -> str:
    """Why the large numbers of a float column are no ids."""
    return (
        f"{column} is a {kind}, in which whole numbers from {exact_below(kind)} on cannot be told apart: "
        "write it as integer or text"
    )


def nobody_set(words: Iterable[str] = NOBODY_WORDS) -> pa.Array:
    """The words that mean nobody, as `known_users` compares them."""
    return pa.array(sorted({word.strip().lower() for word in words}), pa.string())


def known_users(text: pa.Array, nobody: pa.Array) -> tuple[pa.Array, Problems]:
    """User ids as histories know them: long ones as their digest, those that mean nobody marked; nulls stay."""
    users = text.dictionary_encode()
    names = users.dictionary
    means_nobody = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(names)), value_set=nobody)
    problems: Problems = []
    if pc.any(means_nobody).as_py():
        problems.append((_mask(means_nobody.take(users.indices)), NOBODY))
    length = pc.utf8_length(names)
    is_long = pc.and_(pc.greater(length, USER_ID_MAX), pc.less_equal(length, USER_ID_READ))
    if not pc.any(is_long).as_py():
        return text, problems
    digests = [digest_of(name) for name in names.filter(is_long).to_pylist()]
    names = pc.replace_with_mask(names, is_long, pa.array(digests, names.type))
    return names.take(users.indices), problems


def _mask(values: pa.Array) -> np.ndarray:
    mask: np.ndarray = pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(bool)
    return mask
