"""Columns of moments to milliseconds since 1970, UTC: counts of s, ms, us or ns, ISO 8601 text, Arrow's own types."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from adbeam.errors import UserError
from adbeam.logs.casts import Marked, cast_or_mark, is_text, none_marked, plain, to_number
from adbeam.logs.times.forms import COMPACT, HAS_ZONE, as_iso

UNITS = ("s", "ms", "us", "ns", "iso")
_PARTS = {"ms": 1, "us": 1_000, "ns": 1_000_000}
"""Parts of a millisecond; seconds hold a thousand of them."""
_FAR_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: greater times are not representable as dates."""


def to_milliseconds(values: pa.Array, column: str, unit: str, timezone: str | None = None) -> Marked:
    """int64 milliseconds since 1970, UTC; parts of a millisecond are dropped.

    Numbers, also as text, count `unit`; text is ISO 8601 when the unit is iso (times.forms has the other forms). Times
    without a zone are those of `timezone`, default UTC: of an hour that the clocks show twice the first, of one that
    they leave out the moment after it.
    """
    values = plain(values)
    kind = values.type
    if pt.is_timestamp(kind) or pt.is_date(kind):
        has_zone = pt.is_timestamp(kind) and kind.tz is not None
        moments = values.cast(pa.timestamp("ms", kind.tz if has_zone else None), safe=False)
        return (moments if has_zone else _in_zone(moments, timezone)).cast(pa.int64()), none_marked(values)
    if unit != "iso" or pt.is_null(kind):
        return _counted(values, column, unit)
    if pt.is_integer(kind) and _is_compact(values):
        values = values.cast(pa.string())
    elif not is_text(kind):
        raise UserError(
            "timestamp_unit is iso but the column holds no text",
            field=column,
            value=str(kind),
            remedy="set timestamp_unit to s, ms, us or ns",
        )
    text, bad = cast_or_mark(values, pa.string())
    moments, not_time = _iso_to_milliseconds(text, timezone)
    return moments, bad | not_time


def _counted(values: pa.Array, column: str, unit: str) -> Marked:
    numbers, bad = to_number(values, column)
    floats = pc.fill_null(numbers, 0.0).to_numpy(zero_copy_only=False)
    scaled = floats * 1000 if unit == "s" else floats / _PARTS[unit]
    beyond = np.abs(scaled) > _FAR_MS
    if unit == "ns":
        scaled = scaled + 0.0002  # a float64 of nanoseconds is right to 128 of them: no moment falls below its own ms
    moments = pa.array(np.floor(np.where(beyond, 0, scaled)).astype(np.int64))
    if (exact := _exact_milliseconds(values, unit)) is not None:
        moments = pc.coalesce(exact, moments)
    return pc.if_else(pc.and_(pa.array(~beyond), numbers.is_valid()), moments, None), bad | beyond


def _exact_milliseconds(values: pa.Array, unit: str) -> pa.Array | None:
    """Whole numbers, also as text, need no detour through float64 (which is exact to 2^53 only); null elsewhere."""
    kind = values.type
    if pt.is_integer(kind):
        whole, _ = cast_or_mark(values, pa.int64())
    elif is_text(kind) and unit in ("us", "ns"):
        text = pc.utf8_trim_whitespace(cast_or_mark(values, pa.string())[0])
        is_whole = pc.match_substring_regex(text, r"^-?[0-9]{1,18}$|^1[0-9]{18}$")
        whole = pc.if_else(is_whole, text, None).cast(pa.int64())
    else:
        return None
    if unit == "s":
        return pc.multiply(pc.if_else(pc.less(pc.abs(whole), _FAR_MS), whole, 0), 1000)
    if unit == "ms":
        return whole
    floor = pc.fill_null(whole, 0).to_numpy(zero_copy_only=False) // _PARTS[unit]
    return pc.if_else(whole.is_valid(), pa.array(floor), None)


def _is_compact(values: pa.Array) -> bool:
    """Whether whole numbers are written moments, as 20250301081500, and no counts."""
    known = values.drop_null()
    return bool(len(known)) and bool(pc.any(pc.match_substring_regex(known.cast(pa.string()), COMPACT)).as_py())


def _iso_to_milliseconds(text: pa.Array, timezone: str | None) -> Marked:
    """Written moments with or without a zone, row by row; other forms are rewritten only where there are any."""
    try:
        return _parsed(text, timezone, _all)
    except pa.ArrowInvalid:
        return _parsed(as_iso(text), timezone, cast_or_mark)


def _parsed(text: pa.Array, timezone: str | None, cast: Callable[[pa.Array, pa.DataType], Marked]) -> Marked:
    has_zone = pc.match_substring_regex(text, HAS_ZONE)
    has_zone = pc.and_(has_zone, pc.match_substring(text, ":"))
    zoned, not_zoned = cast(pc.if_else(has_zone, text, None), pa.timestamp("us", "UTC"))
    naive, not_naive = cast(pc.if_else(has_zone, None, text), pa.timestamp("us"))
    moments = pc.coalesce(zoned.cast(pa.int64()), _in_zone(naive, timezone).cast(pa.int64()))
    whole = pc.fill_null(moments, 0).to_numpy(zero_copy_only=False) // 1000
    return pc.if_else(moments.is_valid(), pa.array(whole), None), not_zoned | not_naive


def _all(values: pa.Array, target: pa.DataType) -> Marked:
    """Cast; raises where a single value does not fit."""
    return values.cast(target), none_marked(values)


def _in_zone(naive: pa.Array, timezone: str | None) -> pa.Array:
    """Moments without a zone as UTC."""
    if timezone is None or timezone == "UTC":
        return naive
    try:
        return pc.assume_timezone(naive, timezone, ambiguous="earliest", nonexistent="latest")
    except pa.ArrowInvalid as error:
        raise UserError(str(error), field="timezone", value=timezone, remedy="install the system's tzdata") from None
