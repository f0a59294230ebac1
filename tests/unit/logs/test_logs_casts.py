"""Values of any type a file may bring become the contract's types, and those that cannot are marked one by one."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from adbeam.errors import UserError
from adbeam.logs.casts import cast_or_mark, rounded_ids, to_boolean, to_number, to_text, to_whole
from adbeam.logs.times.moments import to_milliseconds

MOMENT_MS = 1_506_916_800_123  # 2017-10-02T04:00:00.123Z


def test_cast_or_mark_finds_exactly_the_bad_values():
    values = [str(number) for number in range(1000)]
    for place in (0, 17, 998):
        values[place] = "x"
    converted, bad = cast_or_mark(pa.array(values), pa.int64())
    assert np.flatnonzero(bad).tolist() == [0, 17, 998]
    assert converted.null_count == 3 and converted[18].as_py() == 18


@pytest.mark.parametrize(
    ("values", "expected", "bad"),
    [
        (pa.array([7, None, 12]), ["7", None, "12"], [0, 0, 0]),
        (pa.array([7.0, 7.5]), ["7", None], [0, 1]),
        (pa.array([b"caf\xc3\xa9", b"\xff"]), ["café", None], [0, 1]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"], [0, 0, 0]),
        (pa.nulls(2), [None, None], [0, 0]),
    ],
)
def test_text_takes_whole_numbers_and_refuses_the_rest(values, expected, bad):
    text, marked = to_text(values, "item_id")
    assert text.to_pylist() == expected
    assert marked.astype(int).tolist() == bad


@pytest.mark.parametrize(("kind", "exact"), [(pa.float16(), 2**11), (pa.float32(), 2**24), (pa.float64(), 2**53)])
def test_whole_numbers_that_a_float_cannot_tell_apart_are_no_ids(kind, exact):
    values = pa.array([exact - 1, exact, -exact, None, 7], pa.float64()).cast(kind)
    text, marked = to_text(values, "user_id")
    assert text.to_pylist() == [str(exact - 1), None, None, None, "7"]
    assert marked.tolist() == rounded_ids(values).tolist() == [False, True, True, False, False]


def test_floats_beyond_every_integer_and_integers_of_any_size():
    assert to_text(pa.array([1e19, float("inf"), float("nan")]), "user_id")[1].tolist() == [True, True, True]
    assert to_text(pa.array([2**62 + 1]), "user_id")[0].to_pylist() == [str(2**62 + 1)]


def test_a_column_that_can_hold_no_text_is_named():
    with pytest.raises(UserError, match=r"user_id: holds no text.*list"):
        to_text(pa.array([[1], [2]]), "user_id")


def test_numbers_from_text_and_never_infinite():
    numbers, bad = to_number(pa.array([" 1.5", "x", "inf", "nan", None, "-2"]), "price")
    assert numbers.to_pylist() == [1.5, None, None, None, None, -2.0]
    assert bad.tolist() == [False, True, True, False, False, False]


@pytest.mark.parametrize("word", ["", " ", "NULL", "NaN", "\\N", "None", "n/a", "-"])
def test_words_for_no_number_are_missing_numbers(word):
    numbers, bad = to_number(pa.array(["1", word, "x"]), "price")
    assert numbers.to_pylist() == [1.0, None, None]
    assert bad.tolist() == [False, False, True]


def test_whole_numbers_refuse_fractions_and_overflow():
    whole, bad = to_whole(pa.array([3.0, 3.5, 1e12]), "position", pa.int32())
    assert whole.to_pylist() == [3, None, None]
    assert bad.tolist() == [False, True, True]


def test_booleans_from_words():
    truth, bad = to_boolean(pa.array(["true", "false", "perhaps"]), "member")
    assert truth.to_pylist() == [True, False, None]
    assert bad.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        (pa.array([MOMENT_MS]), "ms", MOMENT_MS),
        (pa.array([MOMENT_MS * 1000 + 999]), "us", MOMENT_MS),
        (pa.array([1_506_916_800]), "s", 1_506_916_800_000),
        (pa.array([1_506_916_800.123]), "s", MOMENT_MS),
        (pa.array([str(MOMENT_MS).encode()]), "ms", MOMENT_MS),
        (pa.array(["2017-10-02T04:00:00.123Z"]), "iso", MOMENT_MS),
        (pa.array(["2017-10-02T06:00:00.123456+02:00"]), "iso", MOMENT_MS),
        (pa.array(["2017-10-02 04:00:00.123"]), "iso", MOMENT_MS),
        (pa.array(["2017-10-02"]), "iso", MOMENT_MS - 14_400_123),
        (pa.array([date(2017, 10, 2)]), "ms", MOMENT_MS - 14_400_123),
        (pa.array([datetime(2017, 10, 2, 4, 0, 0, 123456)], pa.timestamp("us")), "s", MOMENT_MS),
    ],
)
def test_times_of_every_kind(values, unit, expected):
    moments, bad = to_milliseconds(values, "timestamp", unit)
    assert moments.to_pylist() == [expected] and not bad.any()


def test_times_that_are_none():
    moments, bad = to_milliseconds(pa.array(["2017-10-02", "yesterday", None]), "timestamp", "iso")
    assert moments.is_valid().to_pylist() == [True, False, False]
    assert bad.tolist() == [False, True, False]
    moments, bad = to_milliseconds(pa.array([2**62, -5, None]), "timestamp", "s")
    assert moments.to_pylist() == [None, -5000, None]
    assert bad.tolist() == [True, False, False]


def test_iso_on_numbers_says_what_to_set():
    with pytest.raises(UserError, match="timestamp_unit"):
        to_milliseconds(pa.array([1, 2]), "timestamp", "iso")


def test_a_decimal_is_the_float_that_its_digits_name():
    texts = ["1.90", "15.11", "79.85", "0.12", "-31.99", "1982.24", None]
    decimals = pa.array([None if text is None else Decimal(text) for text in texts], pa.decimal128(20, 4))
    for kind in (pa.decimal128(20, 4), pa.decimal256(40, 6)):
        numbers, bad = to_number(decimals.cast(kind), "price")
        assert numbers.to_pylist() == [None if text is None else float(text) for text in texts] and not bad.any()
