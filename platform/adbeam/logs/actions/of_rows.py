"""Rows that carry several actions, as flags or moments in columns of their own, become one event for each.

`actions: {click: is_click, conversion: converted_at}`: true or 1 is an event at the row's timestamp, a moment one at
that moment; false, 0 and nothing are none. The row itself is an event where it names an action. R rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from adbeam.errors import UserError
from adbeam.logs.casts import NO_NUMBER, cast_or_mark, is_text, none_marked, plain, to_number, to_text
from adbeam.logs.config import TableConfig
from adbeam.logs.ids.columns import id_texts, known_users, nobody_set
from adbeam.logs.tables.fragments import Chunk
from adbeam.logs.tables.mapping import ACTION_COLUMN
from adbeam.logs.times.moments import to_milliseconds
from adbeam.logs.validate import ID_LENGTH, Reasons, quarantine_rows, whole_column

FIRST_MOMENT_MS = 31_536_000_000
"""1971: an earlier moment is a count (two clicks) or in another unit."""
_MOMENTS = pa.timestamp("ms", "UTC")
_YES, _NO = ("true", "1", "1.0"), ("false", "0", "0.0", *NO_NUMBER)


def events_of_rows(chunk: Chunk, config: TableConfig) -> Iterator[Chunk]:
    """The events of rows with the contract's names: those at the rows' timestamps, then those at moments of their own.

    A row with a flag or id that cannot be read is quarantined whole. The events of a row share its request and have ids
    of their own. A price is the conversion's alone where `conversion` is one of the actions.
    """
    raw = chunk.table
    if not raw.num_rows:
        yield chunk
        return
    reasons = Reasons(raw.num_rows)
    told = {action: _read(raw, action, config, reasons) for action in config.actions}
    rows = _with_text(raw, reasons)
    own, clean_R = whole_column(rows, "action"), pa.array(reasons.clean)
    at_rows = [rows.filter(pc.and_(clean_R, own.is_valid()))]
    at_moments = []
    per_R = pc.and_(clean_R, own.is_valid()).cast(pa.int64())
    named = _with_requests(rows, config)
    for action, (flag_R, moment_R) in told.items():
        untold_R = pc.and_(clean_R, pc.fill_null(pc.not_equal(own, action), True))  # what the row itself says is told
        at_rows.append(_events(rows, pc.and_(untold_R, flag_R), action))
        later_R = pc.and_(untold_R, moment_R.is_valid())
        at_moments.append(_events(_with(named, "timestamp", moment_R.cast(_MOMENTS)), later_R, action))
        per_R = pc.add(per_R, pc.or_(pc.and_(untold_R, flag_R), later_R).cast(pa.int64()))
    yield from _chunks(chunk, (at_rows, at_moments), config, reasons, per_R.to_numpy())


def _chunks(
    chunk: Chunk, parts: tuple[list[pa.Table], list[pa.Table]], config: TableConfig, reasons: Reasons, per_R: np.ndarray
) -> Iterator[Chunk]:
    """A chunk at the rows' timestamps and one at other moments: these need not be of one type. `per_R` are events."""
    first, second = (_priced(pa.concat_tables(tables), config) for tables in parts)
    bad = quarantine_rows(chunk.table, reasons)
    pairs = zip(bad["reason"].to_pylist(), bad["row"].to_pylist(), strict=True)
    more = int(np.maximum(per_R - 1, 0).sum()) - second.num_rows
    without = int(((per_R == 0) & reasons.clean).sum())
    yield Chunk(first, (*chunk.malformed, *pairs), chunk.notes, more, without)
    if second.num_rows:
        yield Chunk(second, more_events=second.num_rows)


def _read(raw: pa.Table, action: str, config: TableConfig, reasons: Reasons) -> tuple[pa.Array, pa.Array]:
    """(bool [R], whether the action's column is a set flag; int64 [R], its moment in ms or null)."""
    name = ACTION_COLUMN.format(action)
    values = plain(whole_column(raw, name))
    yes_R, no_R = _flags(values, name)
    rest = pc.if_else(pc.or_(yes_R, no_R), None, values)
    if rest.null_count == len(rest):
        return yes_R, pa.nulls(len(rest), pa.int64())
    if config.timestamp_unit == "iso" and not (pt.is_temporal(rest.type) or is_text(rest.type)):
        rest, bad_R = cast_or_mark(rest, pa.int64())  # 20250301081500 as a number
        rest = rest.cast(pa.string())
    else:
        bad_R = none_marked(rest)
    moment_R, no_time_R = to_milliseconds(rest, name, config.timestamp_unit, config.timezone)
    reasons.mark(bad_R | no_time_R, f"{name} is neither a flag nor a moment")
    reasons.mark(pc.less(moment_R, FIRST_MOMENT_MS), f"{name} is neither a flag nor a moment from 1971 on")
    return yes_R, moment_R


def _flags(values: pa.Array, name: str) -> tuple[pa.Array, pa.Array]:
    """(bool [R] set flags, bool [R] flags that are not set, and nothing)."""
    kind = values.type
    if pt.is_timestamp(kind) or pt.is_date(kind):
        return pa.array(none_marked(values)), values.is_null()
    if pt.is_boolean(kind):
        return pc.fill_null(values, False), pc.invert(pc.fill_null(values, False))
    if is_text(kind):
        text, bad = cast_or_mark(values, pa.string())
        word = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(text, "")))
        nothing = pc.and_(pc.is_in(word, value_set=pa.array(_NO)), pc.invert(pa.array(bad)))
        return pc.is_in(word, value_set=pa.array(_YES)), nothing
    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind):
        number, infinite = to_number(values, name)
        nothing = pc.and_(pc.equal(pc.fill_null(number, 0.0), 0.0), pc.invert(pa.array(infinite)))
        return pc.fill_null(pc.equal(number, 1.0), False), nothing
    remedy = "name a column of flags or moments"
    raise UserError(
        "holds neither flags nor moments", field=f"logs.files.events.{name}", value=str(kind), remedy=remedy
    )


def _with_text(raw: pa.Table, reasons: Reasons) -> pa.Table:
    """The rows without the columns of their actions; ids and the row's own action as text, what is none is marked."""
    rows = raw.drop_columns([name for name in raw.column_names if name.startswith(ACTION_COLUMN.format(""))])
    for name in ("event_id", "request_id"):
        text, problems = id_texts(whole_column(raw, name), name)
        for where, reason in problems:
            reasons.mark(where, reason)
        rows = _with(rows, name, text)
    action, bad = to_text(whole_column(raw, "action"), "action")
    reasons.mark(bad, "action is not text")
    return _with(rows, "action", pc.if_else(pc.equal(pc.utf8_trim_whitespace(action), ""), None, action))


def _with(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name not in rows.column_names:
        return rows.append_column(name, values)
    return rows.set_column(rows.column_names.index(name), name, values)


def _with_requests(rows: pa.Table, config: TableConfig) -> pa.Table:
    """The rows with the request that they are by themselves: without an id the user and the row's own moment."""
    user, _ = id_texts(whole_column(rows, "user_id"), "user_id")
    user, _ = known_users(user, nobody_set(()))
    moment, _ = to_milliseconds(whole_column(rows, "timestamp"), "timestamp", config.timestamp_unit, config.timezone)
    own = pc.binary_join_element_wise(user, moment.cast(pa.string()), "@")
    return _with(rows, "request_id", pc.coalesce(whole_column(rows, "request_id"), own))


def _events(rows: pa.Table, where_R: pa.Array, action: str) -> pa.Table:
    """Events of one action; their ids tell it, so that they are not the row's own."""
    events = rows.filter(where_R)
    ids = [_id_of(told, action) for told in events["event_id"].to_pylist()]
    events = _with(events, "event_id", pa.array(ids, pa.string()))
    return _with(events, "action", pa.array([action] * events.num_rows, pa.string()))


def _id_of(told: str | None, action: str) -> str | None:
    if told is None or not told.strip():
        return told
    named = f"{told}:{action}"
    if len(told) > ID_LENGTH or len(named) <= ID_LENGTH:
        return named
    return hashlib.blake2b(named.encode(), digest_size=12).hexdigest()


def _priced(events: pa.Table, config: TableConfig) -> pa.Table:
    """The price of a row is what its conversion brought, and not its impression's or click's as well."""
    if "conversion" not in config.actions or "price" not in events.column_names:
        return events
    price = pc.if_else(pc.equal(whole_column(events, "action"), "conversion"), whole_column(events, "price"), None)
    return _with(events, "price", price)
