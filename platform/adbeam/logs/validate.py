"""Validation and quarantine: every raw row passes all checks or leaves with the first reason it failed.

Vectorised over a batch. Nothing is corrected: a row that is not right is quarantined whole, as JSON, with its reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adbeam.identity.people import USER_ID_READ
from adbeam.logs.casts import as_rows, to_boolean, to_number, to_text, to_whole, whole
from adbeam.logs.events.content_ids import content_ids
from adbeam.logs.ids.columns import ID_COLUMNS, id_texts, known_users, nobody_set
from adbeam.logs.times.moments import to_milliseconds
from adbeam.logs.told.columns import told_values
from adbeam.records import ACTIONS, EVENT_SCHEMA, ITEM_KINDS, MOST_MONEY
from adbeam.targeting.features import FeatureConfig

ID_LENGTH = 128
SCENE_LENGTH = 64
LAST_POSITION = 10_000
QUARANTINE_SCHEMA = pa.schema([pa.field("reason", pa.string()), pa.field("row", pa.string())])
NOT_IN_CATALOGUE = "item not in catalogue"
PRICE_DROPPED = "prices off a conversion that are no number, left out"
EVENT_ID_TAKEN = "event_id names another event of the user"
NOT_TEXT = "is not text"
FEATURE_TYPES = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}


@dataclass(frozen=True)
class EventRules:
    """What a log's rows are held against. `latest_ms` is now: a later timestamp is in the future."""

    timestamp_unit: str
    latest_ms: int
    catalogue_ids: pa.Array
    catalogue_kinds: pa.Array
    features: pa.Schema
    nobody: pa.Array = field(default_factory=nobody_set)
    """User ids that mean nobody, in lower case."""
    timezone: str | None = None
    """Of times that name none; None is UTC."""
    told: Mapping[str, FeatureConfig] = field(default_factory=dict)
    """Columns that hold features which the model is told."""

    @property
    def schema(self) -> pa.Schema:
        """Schema of the clean events: the contract, then the feature columns."""
        return pa.schema([*EVENT_SCHEMA, *self.features])


class Reasons:
    """The first reason of each row of a batch; rows without one are clean."""

    def __init__(self, rows: int) -> None:
        self._codes = np.zeros(rows, dtype=np.int16)
        self._texts = [""]

    def mark(self, bad: np.ndarray | pa.Array, text: str) -> None:
        """Give `text` to the rows in `bad` that have no reason yet."""
        if isinstance(bad, pa.Array | pa.ChunkedArray):
            bad = pc.fill_null(bad, False).to_numpy(zero_copy_only=False)
        if bad.any():
            self._texts.append(text)
            self._codes[bad & (self._codes == 0)] = len(self._texts) - 1

    @property
    def clean(self) -> np.ndarray:
        clean: np.ndarray = self._codes == 0
        return clean

    def texts(self) -> list[str]:
        """The reasons of the rows that are not clean, in row order."""
        return [self._texts[code] for code in self._codes[self._codes > 0]]


def validate_events(raw: pa.Table, rules: EventRules, notes: Counter[str] | None = None) -> tuple[pa.Table, pa.Table]:
    """(clean events, quarantine) of one batch whose columns already have the contract's names.

    `notes` counts what was left out of rows that were kept.

    A column that is absent or null takes its default: item_kind the catalogue's, scene "default", request_id the user
    and moment, event_id a hash of the row's content.
    """
    reasons = Reasons(raw.num_rows)
    columns = _text_columns(raw, rules.nobody, reasons)
    columns["timestamp"] = _timestamps(raw, rules, reasons)
    columns |= _numbers(raw, columns["action"], reasons, notes if notes is not None else Counter())
    columns |= {field.name: _feature(raw, field, rules.told.get(field.name), reasons) for field in rules.features}
    _check_catalogue(columns, rules, reasons)
    _fill_defaults(columns)
    clean = pa.table([columns[name] for name in rules.schema.names], schema=_nullable(rules.schema))
    clean = clean.filter(pa.array(reasons.clean))
    return _with_event_ids(clean).cast(rules.schema), quarantine_rows(raw, reasons)


def quarantine_rows(raw: pa.Table, reasons: Reasons) -> pa.Table:
    """The rows that have a reason, each as JSON of what was read."""
    texts = reasons.texts()
    bad = as_rows(raw.filter(pa.array(~reasons.clean))) if texts else []
    rows = [json.dumps(row, default=_as_text, ensure_ascii=False) for row in bad]
    return pa.table([texts, rows], schema=QUARANTINE_SCHEMA)


def malformed_rows(lines: Iterable[tuple[str, str]]) -> pa.Table:
    """Quarantine of lines that are no rows, from (reason, text)."""
    pairs = list(lines)
    return pa.table([[reason for reason, _ in pairs], [text for _, text in pairs]], schema=QUARANTINE_SCHEMA)


def with_encoding(remedy: str, reasons: Iterable[str]) -> str:
    """The remedy for a table that is too bad, and where text could not be read the setting that may read it."""
    hint = "set encoding (latin-1, cp1252) where a file is not in UTF-8; "
    return (hint if any(reason.endswith(NOT_TEXT) for reason in reasons) else "") + remedy


def cast_feature(values: pa.Array, field: pa.Field, reasons: Reasons) -> pa.Array:
    """A feature column in its declared type."""
    if pa.types.is_string(field.type):
        converted, bad = to_text(values, field.name)
    elif pa.types.is_boolean(field.type):
        converted, bad = to_boolean(values, field.name)
    elif pa.types.is_integer(field.type):
        converted, bad = to_whole(values, field.name, field.type)
    else:
        converted, bad = to_number(values, field.name)
        converted = converted.cast(field.type, safe=False)
    reasons.mark(bad, f"{field.name} is not a {field.type}")
    return converted


def _feature(raw: pa.Table, field: pa.Field, told: FeatureConfig | None, reasons: Reasons) -> pa.Array:
    values = whole_column(raw, field.name)
    if told is None:
        return cast_feature(values, field, reasons)
    converted, problems = told_values(values, field.name, told)
    for where, reason in problems:
        reasons.mark(where, reason)
    return converted.cast(field.type, safe=False)


def check_text(values: pa.Array, column: str, limit: int, reasons: Reasons) -> pa.Array:
    """Text of `column`; empty, longer than `limit` characters or with a zero byte is marked, missing is left null."""
    if column in ID_COLUMNS:
        text, problems = id_texts(values, column)
    else:
        text, bad = to_text(values, column)
        problems = [(bad, f"{column} {NOT_TEXT}")]
    for where, reason in problems:
        reasons.mark(where, reason)
    reasons.mark(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(text)), 0), f"{column} is empty")
    reasons.mark(pc.greater(pc.utf8_length(text), limit), f"{column} is longer than {limit} characters")
    reasons.mark(pc.match_substring(text, "\0"), f"{column} holds a zero byte")
    return text


def check_amount(values: pa.Array, column: str, reasons: Reasons) -> pa.Array:
    """An amount of money: a finite number from 0 to MOST_MONEY; missing is left null."""
    numbers, bad = to_number(values, column)
    reasons.mark(bad, f"{column} is not a number")
    reasons.mark(pc.less(numbers, 0), f"{column} is negative")
    reasons.mark(pc.greater(numbers, MOST_MONEY), f"{column} is beyond reason")
    return numbers


def check_word(text: pa.Array, column: str, words: tuple[str, ...], reasons: Reasons) -> None:
    """Mark what is none of `words`; missing is left alone."""
    known = pc.is_in(text, value_set=pa.array([*words, None], pa.string()))
    reasons.mark(pc.invert(known), f"{column} is unknown")


def _text_columns(raw: pa.Table, nobody: pa.Array, reasons: Reasons) -> dict[str, pa.Array]:
    columns = {"user_id": check_text(whole_column(raw, "user_id"), "user_id", USER_ID_READ, reasons)}
    columns["user_id"], problems = known_users(columns["user_id"], nobody)
    for where, reason in problems:
        reasons.mark(where, reason)
    for name in ("item_id", "action", "event_id", "request_id", "item_kind", "scene"):
        limit = SCENE_LENGTH if name == "scene" else ID_LENGTH
        columns[name] = check_text(whole_column(raw, name), name, limit, reasons)
    for name in ("user_id", "item_id", "action"):
        reasons.mark(columns[name].is_null(), f"{name} is empty")
    check_word(columns["action"], "action", ACTIONS, reasons)
    check_word(columns["item_kind"], "item_kind", ITEM_KINDS, reasons)
    return columns


def _timestamps(raw: pa.Table, rules: EventRules, reasons: Reasons) -> pa.Array:
    moments, bad = to_milliseconds(whole_column(raw, "timestamp"), "timestamp", rules.timestamp_unit, rules.timezone)
    reasons.mark(bad, "timestamp is not a time")
    reasons.mark(moments.is_null(), "timestamp is empty")
    reasons.mark(pc.less(moments, 0), "timestamp is before 1970")
    reasons.mark(pc.greater(moments, rules.latest_ms), "timestamp is in the future")
    return moments


def _numbers(raw: pa.Table, action: pa.Array, reasons: Reasons, notes: Counter[str]) -> dict[str, pa.Array]:
    price = _without_stray_prices(whole_column(raw, "price"), action, notes)
    columns = {"price": check_amount(price, "price", reasons)}
    columns |= {name: check_amount(whole_column(raw, name), name, reasons) for name in ("bid", "ecpm")}
    position, bad = to_whole(whole_column(raw, "position"), "position", pa.int32())
    outside = pc.or_(pc.less(position, 0), pc.greater(position, LAST_POSITION))
    reasons.mark(bad, "position is not a whole number")
    reasons.mark(outside, f"position is not from 0 to {LAST_POSITION}")
    return columns | {"position": position}


def _without_stray_prices(price: pa.Array, action: pa.Array, notes: Counter[str]) -> pa.Array:
    """Prices that no conversion needs and nobody can read are left out, and counted; the event stays."""
    numbers, bad = to_number(price, "price")
    stray = bad & pc.fill_null(pc.not_equal(action, "conversion"), False).to_numpy(zero_copy_only=False)
    if not stray.any():
        return price if bad.any() else numbers
    notes[PRICE_DROPPED] += int(stray.sum())
    return pc.if_else(pa.array(stray), None, price)


def _check_catalogue(columns: dict[str, pa.Array], rules: EventRules, reasons: Reasons) -> None:
    place = places_in(rules.catalogue_ids, columns["item_id"])
    reasons.mark(place.is_null(), NOT_IN_CATALOGUE)
    columns["item_kind"] = pc.coalesce(columns["item_kind"], rules.catalogue_kinds.take(place))


def places_in(ids: pa.Array, wanted: pa.Array) -> pa.Array:
    """int64: where each of `wanted` stands first in `ids`; null where it does not.

    A table of the few wanted words is built and all `ids` are looked up there: the other way round every batch would
    build a table of the whole catalogue.
    """
    encoded = wanted.dictionary_encode()
    found = pc.index_in(ids, value_set=encoded.dictionary)
    row_n = found.is_valid().to_numpy(zero_copy_only=False).nonzero()[0][::-1]
    place = np.full(len(encoded.dictionary), -1, dtype=np.int64)
    place[found.drop_null().to_numpy()[::-1]] = row_n  # of an id's rows the last one stays, which is the first here
    return pa.array(place, mask=place < 0).take(encoded.indices)


def _fill_defaults(columns: dict[str, pa.Array]) -> None:
    columns["scene"] = pc.fill_null(columns["scene"], "default")
    moment = columns["timestamp"].cast(pa.string())
    derived = pc.binary_join_element_wise(columns["user_id"], moment, "@")
    columns["request_id"] = pc.coalesce(columns["request_id"], derived)


def _with_event_ids(events: pa.Table) -> pa.Table:
    """Rows without an event_id get a hash of their content, so that exact duplicates stay duplicates."""
    ids = events.column("event_id").combine_chunks()
    if not ids.null_count:
        return events
    content = content_ids(events.filter(ids.is_null()))
    filled = pc.replace_with_mask(ids, ids.is_null(), content)
    return events.set_column(events.schema.get_field_index("event_id"), "event_id", filled)


def whole_column(raw: pa.Table, name: str) -> pa.Array:
    """The column in one chunk, or nulls when the log has none."""
    return whole(raw.column(name)) if name in raw.column_names else pa.nulls(raw.num_rows)


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
