"""Each bad row leaves with one reason; a clean one comes out under the Event contract."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pytest

from adbeam.logs.catalogue import validate_items
from adbeam.logs.validate import PRICE_DROPPED, EventRules, places_in, validate_events
from adbeam.records import CATALOGUE_SCHEMA, EVENT_SCHEMA, Event

NOW_MS = 1_700_000_000_000
RULES = EventRules("ms", NOW_MS, pa.array(["a", "b"]), pa.array(["ad", "organic"]), pa.schema([("week", pa.int64())]))
GOOD = {
    "event_id": "e1",
    "request_id": "r1",
    "user_id": "u1",
    "timestamp": NOW_MS - 1,
    "item_id": "a",
    "item_kind": "ad",
    "scene": "feed",
    "action": "conversion",
    "bid": 0.5,
    "ecpm": None,
    "price": 2.5,
    "position": 3,
    "week": 44,
}


def _validate(*changes: dict) -> tuple[pa.Table, pa.Table]:
    rows = [{**GOOD, **change} for change in changes]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        values = [row[name] for row in rows]
        mixed = len({type(value) for value in values if value is not None}) > 1
        columns[name] = [None if value is None else str(value) for value in values] if mixed else values
    return validate_events(pa.table(columns), RULES)


def test_a_clean_row_keeps_every_value_and_fits_the_pydantic_event():
    clean, bad = _validate({})
    assert clean.schema == RULES.schema and not bad.num_rows
    row = clean.to_pylist()[0]
    assert row == GOOD
    Event(**{name: row[name] for name in EVENT_SCHEMA.names})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"user_id": " "}, "user_id is empty"),
        ({"user_id": None}, "user_id is empty"),
        ({"user_id": "u" * 4097}, "user_id is longer than 4096 characters"),
        ({"user_id": "NULL"}, "user_id means nobody"),
        ({"item_id": "i" * 129}, "item_id is longer than 128 characters"),
        ({"item_id": ""}, "item_id is empty"),
        ({"item_id": "zzz"}, "item not in catalogue"),
        ({"event_id": ""}, "event_id is empty"),
        ({"action": "glance"}, "action is unknown"),
        ({"action": None}, "action is empty"),
        ({"item_kind": "sponsored"}, "item_kind is unknown"),
        ({"timestamp": None}, "timestamp is empty"),
        ({"timestamp": "soon"}, "timestamp is not a time"),
        ({"timestamp": NOW_MS + 1}, "timestamp is in the future"),
        ({"timestamp": -1}, "timestamp is before 1970"),
        ({"price": -0.01}, "price is negative"),
        ({"price": "cheap"}, "price is not a number"),
        ({"price": 1e300}, "price is beyond reason"),
        ({"bid": 1.1e12}, "bid is beyond reason"),
        ({"price": float("inf")}, "price is not a number"),
        ({"ecpm": -1.0}, "ecpm is negative"),
        ({"position": -1}, "position is not from 0 to 10000"),
        ({"position": 1.5}, "position is not a whole number"),
        ({"week": "last"}, "week is not a int64"),
        ({"scene": "s" * 65}, "scene is longer than 64 characters"),
        ({"request_id": "r\0"}, "request_id holds a zero byte"),
    ],
)
def test_a_bad_row_leaves_with_its_reason_and_the_others_stay(change, reason):
    clean, bad = _validate({}, {"event_id": "e2", **change}, {"event_id": "e3"})
    assert clean["event_id"].to_pylist() == ["e1", "e3"]
    assert bad["reason"].to_pylist() == [reason]
    row = json.loads(bad["row"][0].as_py())
    assert row["user_id"] == (change.get("user_id", "u1")) and set(row) == set(GOOD)


@pytest.mark.parametrize("price", ["cheap", "inf", b"\xff"])
def test_a_price_that_nobody_can_read_is_left_out_off_a_conversion_and_counted(price):
    prices = pa.array([price if isinstance(price, bytes) else price.encode(), b"NULL", b"2.5"])
    rows = [{**GOOD, "event_id": f"e{place}", "action": action} for place, action in enumerate(("click", "conversion"))]
    table = pa.Table.from_pylist([*rows, {**GOOD, "event_id": "e2"}]).drop_columns("price")
    notes: Counter[str] = Counter()
    clean, bad = validate_events(table.append_column("price", prices), RULES, notes)
    assert clean["price"].to_pylist() == [None, None, 2.5] and not bad.num_rows
    assert notes == {PRICE_DROPPED: 1}


@pytest.mark.parametrize("missing", [float("nan"), None])
def test_nan_is_no_price_and_no_bid(missing):
    clean, bad = _validate({"action": "impression", "price": missing, "bid": missing, "ecpm": missing})
    assert not bad.num_rows
    assert clean.select(["price", "bid", "ecpm"]).to_pylist() == [dict.fromkeys(("price", "bid", "ecpm"))]


def test_the_first_reason_counts():
    _, bad = _validate({"user_id": "", "price": -1.0, "item_id": "zzz"})
    assert bad["reason"].to_pylist() == ["user_id is empty"]


def test_absent_columns_take_their_defaults():
    rows = [{"user_id": 5, "timestamp": 10, "item_id": item, "action": "click"} for item in ("a", "b", "b")]
    clean, bad = validate_events(pa.Table.from_pylist(rows), RULES)
    assert not bad.num_rows
    assert clean["item_kind"].to_pylist() == ["ad", "organic", "organic"]
    assert clean["request_id"].to_pylist() == ["5@10"] * 3
    assert clean["scene"].to_pylist() == ["default"] * 3
    first, second, again = clean["event_id"].to_pylist()
    assert first != second == again


def test_catalogue_rows_are_checked_like_events():
    raw = pa.table(
        {
            "item_id": ["a", "", "c", "d", "e", "f", "g"],
            "kind": ["ad", "ad", "house", None, "organic", "ad", "ad"],
            "title": ["Tea", "x", "x", None, "Bread", "x", "x"],
            "price": ["1.5", "1", "1", "2", "-1", "1e300", None],
            "ecpm": [None, None, None, None, None, None, "4.5e18"],
            "status": ["active", None, None, "paused", None, None, None],
        }
    )
    clean, bad = validate_items(raw, pa.schema([]))
    assert clean.select(CATALOGUE_SCHEMA.names).to_pylist() == [
        {**dict.fromkeys(CATALOGUE_SCHEMA.names), "item_id": "a", "kind": "ad", "title": "Tea", "price": 1.5}
        | {"status": "active"},
        {**dict.fromkeys(CATALOGUE_SCHEMA.names), "item_id": "d", "kind": "ad", "title": "d", "price": 2.0}
        | {"status": "paused"},
    ]
    assert bad["reason"].to_pylist() == [
        "item_id is empty", "kind is unknown", "price is negative", "price is beyond reason", "ecpm is beyond reason",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["title", "category", "brand", "advertiser"])
def test_a_text_of_the_catalogue_in_another_encoding_is_quarantined(name):
    texts = ["Caf\u00e9".encode("latin-1"), "Caf\u00e9".encode(), b"", None]
    raw = pa.table({"item_id": ["a", "b", "c", "d"], name: pa.array(texts, pa.binary())})
    clean, bad = validate_items(raw, pa.schema([]))
    assert clean["item_id"].to_pylist() == ["b", "c", "d"]
    assert clean[name].to_pylist()[:2] == ["Caf\u00e9", ""]
    assert bad["reason"].to_pylist() == [f"{name} is not text"]


@pytest.mark.parametrize("encode", [False, True])
def test_people_whose_ids_a_float_column_has_merged_are_quarantined(encode):
    ids = pa.array([1_234_567_890_123_456_789, 1_234_567_890_123_456_790, 17, None]).cast(pa.float64(), safe=False)
    rows = pa.Table.from_pylist([{**GOOD, "event_id": str(place)} for place in range(4)]).drop_columns("user_id")
    rows = rows.append_column("user_id", ids.dictionary_encode() if encode else ids)
    clean, bad = validate_events(rows, RULES)
    assert clean["user_id"].to_pylist() == ["17"]
    merged = "user_id is a double, in which whole numbers from 9007199254740992 on cannot be told apart"
    assert [reason.split(":")[0] for reason in bad["reason"].to_pylist()] == [merged, merged, "user_id is empty"]


def test_items_whose_ids_a_float_column_has_merged_are_quarantined():
    raw = pa.table({"item_id": pa.array([2**24 + 1, 5], pa.float64()).cast(pa.float32(), safe=False)})
    clean, bad = validate_items(raw, pa.schema([]))
    assert clean["item_id"].to_pylist() == ["5"]
    assert "item_id is a float" in bad["reason"][0].as_py() and "16777216" in bad["reason"][0].as_py()


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_moment_that_python_cannot_hold_is_quarantined_with_its_number(unit):
    moment = {"s": 253_402_300_800, "ms": 2**60, "us": 2**62}[unit]
    moments = pa.array([(NOW_MS - 1) // 1000, moment]).cast(pa.timestamp(unit))
    rows = pa.Table.from_pylist([GOOD, {**GOOD, "event_id": "e2"}]).drop_columns("timestamp")
    clean, bad = validate_events(rows.append_column("timestamp", moments), RULES)
    assert clean.num_rows + bad.num_rows == 2
    last = json.loads(bad["row"].to_pylist()[-1])
    assert (last["event_id"], last["timestamp"], last["price"]) == ("e2", moment, 2.5)


def test_what_rides_along_in_a_bad_row_never_ends_the_job():
    days = pa.array([2**30], pa.int32()).cast(pa.date32())
    nested = pa.array([[2**60]], pa.list_(pa.timestamp("ms")))
    rows = pa.Table.from_pylist([{**GOOD, "price": -1.0}])
    _, bad = validate_events(rows.append_column("day", days).append_column("moments", nested), RULES)
    row = json.loads(bad["row"][0].as_py())
    assert row["day"] == 2**30 and row["moments"] == "a list<item: timestamp[ms]> that cannot be shown"


def test_places_of_items_in_a_catalogue():
    catalogue = pa.array(["b", "a", "c", "a", "d"])
    assert places_in(catalogue, pa.array(["a", None, "x", "d", "a", ""])).to_pylist() == [1, None, None, 4, 1, None]
    assert places_in(catalogue, pa.nulls(2, pa.string())).to_pylist() == [None, None]
    assert places_in(pa.array([], pa.string()), pa.array(["a"])).to_pylist() == [None]
