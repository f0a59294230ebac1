"""Targeting rules of a catalogue's ads: checked row by row, kept in their one form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from adbeam.errors import UserError
from adbeam.logs.casts import cast_or_mark, is_text, plain
from adbeam.logs.validate import Reasons
from adbeam.targeting.features import Features
from adbeam.targeting.rules import read_rules

REASON_LENGTH = 200
MOST_REASONS = 1000
"""Reasons of a batch that are told apart: they name what stands in the rules, and every row may have its own."""
OTHER_REASON = "targeting is no rule"


def read_column(values: pa.Array, features: Features, reasons: Reasons) -> pa.Array:
    """Text [rows]: the rules in their one form, null where an ad has none; marked where they are none.

    A value is JSON as text, or the object itself.
    """
    values = plain(values)
    if is_text(values.type):
        values, bad = cast_or_mark(values, pa.string())
        reasons.mark(bad, "targeting is not text")
    known: dict[str, tuple[str | None, str | None]] = {}
    texts: list[str | None] = []
    problems: dict[str, list[int]] = {}
    for row, value in enumerate(values.to_pylist()):
        if not isinstance(value, str):
            text, problem = _read(_without_nulls(value), features)
        elif (text_and_problem := known.get(value)) is None:
            text, problem = known[value] = _read(value, features)
        else:
            text, problem = text_and_problem
        texts.append(text)
        if problem is not None:
            reason = problem if problem in problems or len(problems) < MOST_REASONS else OTHER_REASON
            problems.setdefault(reason, []).append(row)
    for reason, rows in problems.items():
        bad = np.zeros(len(values), np.bool_)
        bad[rows] = True
        reasons.mark(bad, reason)
    return pa.array(texts, pa.string())


def _read(value: Any, features: Features) -> tuple[str | None, str | None]:
    """(the rules in their one form, what is wrong with them)."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None, None
    try:
        return read_rules(value, features).text, None
    except UserError as error:
        return None, f"{error.field}: {error.what}"[:REASON_LENGTH]


def _without_nulls(value: Any) -> Any:
    """An object as it was written: Arrow gives all rows of a column the keys of any."""
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
