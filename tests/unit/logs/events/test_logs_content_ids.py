"""Ids of events that bring none: as if each row were written as JSON and hashed on its own."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from adbeam.logs.events.content_ids import content_ids
from adbeam.records import EVENT_SCHEMA

SCHEMA = pa.schema([*(field.with_nullable(True) for field in EVENT_SCHEMA), ("flag", pa.bool_()), ("size", pa.int64())])
WORDS = st.none() | st.text(max_size=4) | st.sampled_from(["plain", 'a"b', "c\\d", "ä", "\x7f", "\U0001f600", ""])
NUMBERS = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 1e16, 1e-7, 0.1, 5.0])


def value_of(kind: pa.DataType) -> st.SearchStrategy[object]:
    if pa.types.is_string(kind):
        return WORDS
    if pa.types.is_boolean(kind):
        return st.none() | st.booleans()
    return NUMBERS if pa.types.is_floating(kind) else st.none() | st.integers(-(2**31), 2**31 - 1)


ROWS = st.lists(st.fixed_dictionaries({field.name: value_of(field.type) for field in SCHEMA}), min_size=1, max_size=6)


def one_by_one(table: pa.Table) -> list[str]:
    return [hashlib.blake2b(json.dumps(row).encode(), digest_size=12).hexdigest() for row in table.to_pylist()]


@settings(max_examples=200, deadline=None)
@given(ROWS, st.integers(0, 2))
def test_every_row_gets_the_hash_of_its_json(rows: list[dict[str, object]], skipped: int) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA).slice(skipped)  # a slice begins inside the buffers
    assert content_ids(table).to_pylist() == one_by_one(table)


def test_a_plain_log_in_several_chunks() -> None:
    row = dict.fromkeys(SCHEMA.names) | {
        "user_id": "u1",
        "timestamp": 1,
        "item_id": "a1",
        "price": 2.5,
        "scene": "feed",
    }
    one = pa.Table.from_pylist([row, row | {"user_id": "u2"}], schema=SCHEMA)
    table = pa.concat_tables([one, one.slice(1)])
    assert content_ids(table).to_pylist() == one_by_one(table)
    assert len(set(content_ids(table).to_pylist())) == 2
