"""Declared features in logs: what is read, what is fitted, and what is quarantined or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from tests.support.declared.told_log import by_request, events_of, told_config, write_told_log

from adbeam.declared.encoder import FeatureEncoder
from adbeam.errors import UserError
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences

SMALL = {"users": 8, "items": 24, "visits": 8}
FEATURES: dict[str, Any] = {
    "os": {"kind": "category", "model": True},
    "age": {"kind": "number", "model": True, "buckets": 4},
    "interests": {"kind": "list", "model": True, "longest": 2, "separator": ";"},
}


def prepared_of(folder: Path, columns: dict[str, pa.Array], features: dict[str, Any], **logs: Any) -> PreparedLog:
    sample = write_told_log(folder / "log", columns, **SMALL)
    return run(told_config(folder, sample, features, **logs), in_process=True)


def codes(prepared: PreparedLog) -> dict[tuple[str, str], tuple[int, ...]]:
    """{(user, request): codes}; all events of a request have the same."""
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for shard in prepared.sequences():
        for sequence in read_sequences(shard):
            assert sequence.told_HF is not None
            for request, row in zip(sequence.request_H.tolist(), sequence.told_HF.tolist(), strict=True):
                assert found.setdefault((sequence.user_id, request), tuple(row)) == tuple(row)
    return found


def pairs(events: pa.Table) -> list[tuple[str, str]]:
    return list(zip(events["user_id"].to_pylist(), events["request_id"].to_pylist(), strict=True))


def test_every_kind_of_feature_is_fitted_and_encoded(tmp_path: Path) -> None:
    events = events_of(tmp_path / "log", **SMALL)
    ages = by_request(events, [None, *range(20, 60)], 1)
    interests = by_request(events, [[], None, ["tea"], ["wine", "tea"], ["tea", "wine", "soap"]], 2)
    systems = by_request(events, [7, 8, None], 3)
    columns = {"os": pa.array(systems, pa.int64()), "age": pa.array(ages, pa.int64()), "interests": pa.array(interests)}
    prepared = prepared_of(tmp_path, columns, FEATURES)
    assert prepared.account["quarantined"] == 0
    encoder = prepared.told()
    assert encoder is not None and encoder.columns == 4
    told = [
        {name: value for name, value in (("os", system), ("age", age), ("interests", words)) if value not in (None, [])}
        for system, age, words in zip(systems, ages, interests, strict=True)
    ]
    spelled = [
        {name: tuple(value) if isinstance(value, list) else str(value) if name == "os" else value
         for name, value in one.items()}
        for one in told
    ]  # fmt: skip
    expected = dict(zip(pairs(events), encoder.codes(spelled), strict=True))
    assert codes(prepared) == expected
    age, interest, os = encoder.features
    assert set(os.words or ()) == {"7", "8"} and len(age.edges or ()) == 3
    assert set(interest.words or ()) == {"tea", "wine", "soap"} and interest.columns == 2


def test_csv_tells_the_same_as_parquet(tmp_path: Path) -> None:
    events = events_of(tmp_path / "log", **SMALL)
    systems = by_request(events, ["ios", "x, y", "日本 📱", None])
    interests = by_request(events, ["tea; wine", "wine", "", "tea;tea;soap"], 2)
    columns = {"os": pa.array(systems), "age": pa.array([31.5] * len(events)), "interests": pa.array(interests)}
    of_parquet = codes(prepared_of(tmp_path / "parquet", columns, FEATURES))
    sample = write_told_log(tmp_path / "csv" / "log", columns, **SMALL)
    path = tmp_path / "events.csv"
    pyarrow.csv.write_csv(pq.read_table(sample.events), path)
    settings = {"files": {"events": str(path), "catalogue": str(sample.catalogue)}}
    of_csv = run(told_config(tmp_path / "csv", sample, FEATURES, **settings), in_process=True)
    assert codes(of_csv) == of_parquet
    assert len({row[3] for row in of_parquet.values()}) == 4


def test_a_request_takes_the_first_value_that_a_row_of_it_has(tmp_path: Path) -> None:
    events = events_of(tmp_path / "log", **SMALL)
    first: set[tuple[str, str]] = set()
    values = []
    for pair in pairs(events):
        values.append("later" if pair in first else None)
        first.add(pair)
    found = codes(prepared_of(tmp_path, {"os": pa.array(values)}, {"os": FEATURES["os"]}))
    several = {pair for pair in first if pairs(events).count(pair) > 1}
    assert several and {found[pair] for pair in several} == {(2,)}
    assert {found[pair] for pair in first - several} <= {(0,)}


def test_what_no_request_could_tell_is_quarantined_and_the_account_balances(tmp_path: Path) -> None:
    events = events_of(tmp_path / "log", **SMALL)
    n = len(events)
    systems: list[str | None] = ["ios"] * n
    ages, interests = [30.0] * n, [["tea"]] * n
    systems[3], ages[5], ages[6], interests[8] = "x" * 10_000, 1e300, float("nan"), ["t"] * 101
    columns = {"os": pa.array(systems), "age": pa.array(ages), "interests": pa.array(interests)}
    prepared = prepared_of(tmp_path, columns, FEATURES)
    account = prepared.account
    assert account["rows_in"] == n == account["kept"] + account["quarantined"]
    assert account["reasons"] == {
        "os is longer than 256 bytes": 1,
        "age is beyond reason": 1,
        "interests has more than 100 values": 1,
    }
    assert any("x" * 10_000 in json.loads(row).get("os", "") for row in prepared.quarantine()["row"].to_pylist())


def test_a_column_whose_type_changes_between_files_tells_the_same(tmp_path: Path) -> None:
    events = events_of(tmp_path / "log", **SMALL)
    numbers = by_request(events, [7, 8])
    half = len(events) // 2
    sample = write_told_log(tmp_path / "log", {}, **SMALL)
    table = pq.read_table(sample.events)
    folder = tmp_path / "files"
    folder.mkdir()
    kinds: tuple[pa.DataType, ...] = (pa.int64(), pa.string())
    for place, (kind, rows) in enumerate(zip(kinds, (slice(0, half), slice(half, None)), strict=True)):
        part = table.slice(rows.start, half if rows.stop else None)
        column = pa.array([str(n) if pa.types.is_string(kind) else n for n in numbers[rows]], kind)
        pq.write_table(part.append_column("os", column), folder / f"{place}.parquet")
    settings = {"files": {"events": str(folder), "catalogue": str(sample.catalogue)}}
    config = told_config(tmp_path, sample, {"os": FEATURES["os"]}, **settings)
    found = codes(run(config, in_process=True))
    assert len(set(found.values())) == 2
    by_value = {number: found[pair] for pair, number in zip(pairs(events), numbers, strict=True)}
    assert all(found[pair] == by_value[number] for pair, number in zip(pairs(events), numbers, strict=True))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"sytem": {"kind": "category", "model": True}}, "features.sytem: .*'sytem'|sytem"),
        ({"os": {"kind": "category", "model": True, "column": "scene"}}, "features.os.column: is a column of the"),
        ({"os": {"kind": "list", "model": True, "column": "flag"}}, "flag: holds no lists"),
        ({"os": {"kind": "category", "model": True, "column": "flag"}}, "flag: holds no text"),
    ],
)
def test_a_column_that_cannot_be_told_is_refused_by_name(tmp_path: Path, features: dict[str, Any], words: str) -> None:
    flags = pa.array([True] * len(events_of(tmp_path / "log", **SMALL)))
    with pytest.raises(UserError, match=words):
        prepared_of(tmp_path, {"flag": flags}, features)


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ({"kind": "category", "buckets": 5}, "buckets is for features that the model is told"),
        ({"kind": "number", "model": True, "most_words": 5}, "a number has no vocabulary"),
        ({"kind": "category", "model": True, "longest": 5}, "longest and separator are for lists"),
        ({"kind": "number", "model": True, "buckets": 1}, "greater than or equal to 2"),
    ],
)
def test_a_key_without_a_use_is_refused(tmp_path: Path, feature: dict[str, Any], words: str) -> None:
    sample = write_told_log(tmp_path / "log", {}, **SMALL)
    with pytest.raises(UserError, match=words):
        told_config(tmp_path, sample, {"os": feature})


def test_what_cannot_be_read_again_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    assert FeatureEncoder.read(tmp_path) is None
    for text, words in (
        ("{", "cannot be read"),
        ('{"format": 9, "features": []}', "has format 9"),
        ('{"format": 1, "features": [{"name": "os", "kind": "category", "source": "request"}]}', "needs one of words"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=words):
            FeatureEncoder.read(tmp_path)


def test_hashes_and_numbers_are_encoded_value_by_value_as_by_column() -> None:
    from adbeam.declared.encoder import FittedFeature
    from adbeam.logs.told.encoding import encode_column

    rng = np.random.default_rng(0)
    words = [None if rng.random() < 0.2 else f"w{rng.integers(50)}" for _ in range(500)]
    numbers = [None if rng.random() < 0.2 else float(rng.normal()) for _ in range(500)]
    hashed = FittedFeature("h", "category", "request", buckets=16)
    number = FittedFeature("n", "number", "request", edges=(-1.0, 0.0, 1.0))
    for feature, column, values in ((hashed, pa.array(words), words), (number, pa.array(numbers), numbers)):
        one_by_one = np.concatenate([feature.encode([value]) for value in values])
        np.testing.assert_array_equal(encode_column(feature, column), one_by_one)
        assert one_by_one.max() < feature.size and (one_by_one == 0).sum() > 50
    assert number.encode([-1.0, -1.5, 1.0, float("nan")]).ravel().tolist() == [3, 2, 5, 0]


def test_rows_with_lists_that_stand_twice_are_duplicates(tmp_path: Path) -> None:
    events = events_of(tmp_path / "log", **SMALL)
    sample = write_told_log(tmp_path / "log", {"interests": pa.array([["tea", "wine"]] * len(events))}, **SMALL)
    table = pq.read_table(sample.events)
    pq.write_table(pa.concat_tables([table, table.slice(0, 7)]).drop_columns(["event_id"]), sample.events)
    prepared = run(told_config(tmp_path, sample, {"interests": FEATURES["interests"]}), in_process=True)
    assert prepared.account["duplicates"] == 7 and prepared.account["kept"] == len(events)


def test_lines_of_json_tell_lists_as_parquet_does(tmp_path: Path) -> None:
    events = events_of(tmp_path / "log", **SMALL)
    interests = by_request(events, [["tea"], [7, 8], [], None, ["日本 📱", None, "tea"]], 2)
    as_text = [words if words is None else [str(word) for word in words if word] for words in interests]
    of_parquet = codes(
        prepared_of(tmp_path / "parquet", {"interests": pa.array(as_text)}, {"interests": FEATURES["interests"]})
    )
    sample = write_told_log(tmp_path / "json" / "log", {}, **SMALL)
    path = tmp_path / "events.jsonl"
    bad = ['["tea"', '["x" "y"]', json.dumps([True]), json.dumps(["a" * 300]), "[" * 100_000 + "]" * 100_000]
    with path.open("w", encoding="utf-8") as file:
        for row, words in zip(pq.read_table(sample.events).to_pylist(), interests, strict=True):
            told = {} if words is None else {"interests": words}
            file.write(json.dumps({name: value for name, value in row.items() if value is not None} | told) + "\n")
        for number, text in enumerate(bad):
            file.write(json.dumps({**pq.read_table(sample.events).to_pylist()[0], "event_id": f"bad-{number}",
                                   "request_id": f"bad-{number}", "interests": text}) + "\n")  # fmt: skip
    settings = {"files": {"events": str(path), "catalogue": str(sample.catalogue)}, "max_quarantined": 0.5}
    prepared = run(
        told_config(tmp_path / "json", sample, {"interests": FEATURES["interests"]}, **settings), in_process=True
    )
    found = {pair: code for pair, code in codes(prepared).items() if not pair[1].startswith("bad")}
    assert found == of_parquet and len(set(found.values())) == 4
    assert prepared.account["reasons"] == {
        "interests is not a list of text": 3,
        "interests has a value longer than 256 bytes": 1,
    }
    assert prepared.account["kept"] == len(events) + 1  # what has no bracket at its end is a word like any other
