"""Columns of ids: one id for a value of any type, what is no id marked, nobody and long ids by the one rule."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.samples import write_sample_log

from adbeam.identity.people import NOBODY_WORDS, digest_of, known_user
from adbeam.logs.config import LogsConfig
from adbeam.logs.ids.columns import id_texts, known_users, nobody_set
from adbeam.logs.pipeline import describe, run

WORDS = nobody_set()


def _read(values: pa.Array) -> tuple[list[str | None], list[str | None]]:
    """(ids, reason of each value or None)."""
    texts, problems = id_texts(values, "user_id")
    reasons: list[str | None] = [None] * len(values)
    for where, reason in reversed(problems):
        for place in np.flatnonzero(where).tolist():
            reasons[place] = reason
    return texts.to_pylist(), reasons


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(20, 4),
             pa.decimal256(60, 2), pa.dictionary(pa.int32(), pa.int64())]
)  # fmt: skip
def test_a_number_is_the_same_id_in_every_type(kind: pa.DataType) -> None:
    values: list[Any] = [Decimal(17), None, Decimal(-3), Decimal(0)] if pa.types.is_decimal(kind) else [17, None, -3, 0]
    if kind == pa.uint64():
        values[2] = 2**64 - 1
    if kind == pa.float16():
        column = pa.array([np.float16(17), None, np.float16(-3), np.float16(0)], kind)
    else:
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        column = pa.array(values, plain)
        column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column
    expected = ["17", None, str(2**64 - 1) if kind == pa.uint64() else "-3", "0"]
    assert _read(column) == (expected, [None] * 4)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.string_view()])
def test_text_is_itself_byte_for_byte(kind: pa.DataType) -> None:
    texts = ["007", "7", " 17 ", "17.0", "U17", "u17", "ü", "u\u0308", "1e3", "true"]
    values = [text.encode() for text in texts] if kind == pa.binary() else texts
    assert _read(pa.array(values, kind)) == (texts, [None] * len(texts))


def test_nan_is_a_missing_id_and_a_fraction_none() -> None:
    texts, reasons = _read(pa.array([1.0, float("nan"), 1.5, float("inf")]))
    assert texts[:2] == ["1", None]
    assert reasons[:3] == [None, None, "user_id is not text"] and reasons[3] is not None
    assert _read(pa.array([Decimal("1.5"), Decimal("2.0")])) == ([None, "2"], ["user_id is not text", None])


@pytest.mark.parametrize(("kind", "limit"), [(pa.float64(), 2**53), (pa.float32(), 2**24)])
def test_floats_that_lost_digits_are_no_ids(kind: pa.DataType, limit: int) -> None:
    _, reasons = _read(pa.array([float(limit - 1), float(limit)], kind))
    assert reasons[0] is None and f"whole numbers from {limit} on" in str(reasons[1])


@pytest.mark.parametrize(
    "values", [[True, None], [[1], None], [{"a": 1}, None], [datetime(2025, 3, 1, tzinfo=UTC), None]]
)
def test_other_types_are_no_ids_and_end_nothing(values: list[Any]) -> None:
    _, reasons = _read(pa.array(values))
    assert "which is no id" in str(reasons[0]) and reasons[1] is None


def test_users_of_a_column_are_those_of_the_endpoint() -> None:
    texts = [*sorted(NOBODY_WORDS), " NULL ", "NaN", "u17", "007", "x" * 128, "x" * 129, "ü" * 300, None, "u17"]
    users, problems = known_users(pa.array(texts), WORDS)
    marked = np.zeros(len(texts), dtype=bool) if not problems else problems[0][0]
    found = [None if bad else user for user, bad in zip(users.to_pylist(), marked, strict=True)]
    assert found == [known_user(text) for text in texts]
    assert digest_of("x" * 129) in found and "u17" in found


def _log(folder: Path, user_ids: pa.Array, item_ids: pa.Array | None = None, **files: Any) -> Any:
    """The sample log with these users on its first rows, prepared in this process."""
    sample = write_sample_log(folder / "sample")
    events = pq.read_table(sample.events)
    place = events.schema.get_field_index("user_id")
    rest = events["user_id"].slice(len(user_ids)).cast(pa.string())
    events = events.set_column(place, "user_id", pa.chunked_array([user_ids.cast(pa.string()), *rest.chunks]))
    pq.write_table(events, sample.events)
    settings = sample.settings
    settings["files"] |= files
    return run(SimpleNamespace(work_dir=folder / "run", logs=LogsConfig.parse(settings)), in_process=True)


def test_rows_of_nobody_are_quarantined_with_a_reason_of_their_own(tmp_path: Path) -> None:
    account = _log(tmp_path, pa.array(["NULL", "0", "00000000-0000-0000-0000-000000000000"])).account
    assert account["reasons"] == {"user_id means nobody": 3}
    assert account["kept"] == account["rows_in"] - 3


def test_the_words_can_be_others(tmp_path: Path) -> None:
    prepared = _log(tmp_path, pa.array(["0", "Guest", "NULL"]), nobody_words=["guest"])
    assert prepared.account["reasons"] == {"user_id means nobody": 1}
    users = pa.concat_tables([pq.read_table(file, columns=["user_id"]) for file in prepared.sequences()])
    assert {"0", "NULL"} <= set(users["user_id"].to_pylist())


def test_a_long_user_is_in_sequences_under_the_digest(tmp_path: Path) -> None:
    prepared = _log(tmp_path, pa.array(["x" * 300] * 3))
    users = pa.concat_tables([pq.read_table(file, columns=["user_id"]) for file in prepared.sequences()])
    assert known_user("x" * 300) in users["user_id"].to_pylist() and not prepared.account["quarantined"]


def test_a_younger_setting_changes_the_fingerprint_only_where_it_is_set() -> None:
    files = {"events": "e.csv", "catalogue": "a.csv"}
    split = {"by": "leave_last_out"}
    plain = LogsConfig.parse({"source": "files", "files": files, "split": split})
    assert plain.files is not None
    named = LogsConfig.parse({"source": "files", "files": {**files, "nobody_words": ["x"]}, "split": split})
    unset = LogsConfig.parse({"source": "files", "files": {**files, "nobody_words": None}, "split": split})
    assert describe(plain, []) == describe(unset, []) != describe(named, [])


def test_no_word_means_nothing_for_an_item(tmp_path: Path) -> None:
    sample = write_sample_log(tmp_path / "sample")
    events, items = pq.read_table(sample.events), pq.read_table(sample.catalogue)
    old = items["item_id"][0].as_py()
    for path, table in ((sample.events, events), (sample.catalogue, items)):
        ids = pa.array(["0" if name == old else name for name in table["item_id"].to_pylist()])
        pq.write_table(table.set_column(table.schema.get_field_index("item_id"), "item_id", ids), path)
    prepared = run(SimpleNamespace(work_dir=tmp_path / "run", logs=LogsConfig.parse(sample.settings)), in_process=True)
    assert not prepared.account["quarantined"] and "0" in prepared.catalogue()["item_id"].to_pylist()
