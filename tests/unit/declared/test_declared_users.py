"""The table of users: what was known when a request was made, never later; rows that cannot be believed are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.declared.told_log import events_of, told_config, write_told_log
from tests.support.samples import DAY_MS, START_MS

from adbeam.declared.encoder import FittedFeature
from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import describe, run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import UserSequence, read_sequences

SMALL = {"users": 8, "items": 24, "visits": 12}
SEGMENT: dict[str, Any] = {"segment": {"kind": "category", "source": "user", "model": True, "least_requests": 1}}
DAY_40, DAY_60 = START_MS + 40 * DAY_MS, START_MS + 60 * DAY_MS


def prepare_with(
    folder: Path, rows: list[dict[str, Any]], features: dict[str, Any] = SEGMENT, **logs: Any
) -> PreparedLog:
    sample = write_told_log(folder / "log", {}, **SMALL)
    path = folder / "users.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    files = {"events": str(sample.events), "catalogue": str(sample.catalogue), "users": str(path)}
    return run(told_config(folder, sample, features, files=files, **logs), in_process=True)


def sequences(prepared: PreparedLog) -> list[UserSequence]:
    return [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]


def fitted(prepared: PreparedLog) -> FittedFeature:
    encoder = prepared.told()
    assert encoder is not None
    return encoder.features[0]


def test_a_request_hears_what_was_known_by_then(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"user_id": "user0", "segment": "later", "valid_from": DAY_60},
        {"user_id": "user0", "segment": "new", "valid_from": DAY_40},
        {"user_id": "user1", "segment": "always", "valid_from": None},
        {"user_id": "user2", "segment": None, "valid_from": DAY_40},
        {"user_id": "stranger", "segment": "unseen", "valid_from": None},
    ]
    prepared = prepare_with(tmp_path, rows)
    feature = fitted(prepared)
    assert set(feature.words or ()) == {"later", "new", "always"}
    seen = set()
    for sequence in sequences(prepared):
        first: dict[str, int] = {}
        for request, moment in zip(sequence.request_H.tolist(), sequence.timestamp_H.tolist(), strict=True):
            first.setdefault(request, moment)
        assert sequence.told_HF is not None
        for request, codes in zip(sequence.request_H.tolist(), sequence.told_HF.tolist(), strict=True):
            moment = first[request]
            known = "later" if moment >= DAY_60 else "new" if moment >= DAY_40 else None
            expected = {"user0": known, "user1": "always"}.get(sequence.user_id)
            assert codes == feature.encode([expected])[0].tolist()
            seen.add((sequence.user_id, expected))
    assert seen >= {("user0", None), ("user0", "new"), ("user0", "later"), ("user1", "always")}


def test_a_moment_counts_from_itself_on(tmp_path: Path) -> None:
    events = events_of(tmp_path / "log", **SMALL)
    moment = min(t for t, u in zip(events["timestamp"].to_pylist(), events["user_id"].to_pylist(), strict=True)
                 if u == "user0")  # fmt: skip
    for valid_from, told in ((moment, True), (moment + 1, False)):
        rows = [{"user_id": "user0", "segment": "s", "valid_from": valid_from}]
        prepared = prepare_with(tmp_path / str(valid_from), rows)
        (first,) = (
            s.told_HF[0].tolist() for s in sequences(prepared) if s.user_id == "user0" and s.told_HF is not None
        )
        assert (first != [0]) == told


def test_rows_that_cannot_be_believed_are_quarantined_and_counted(tmp_path: Path) -> None:
    good = [{"user_id": f"user{n}", "segment": "a", "valid_from": DAY_40} for n in range(8)]
    bad = [
        {"user_id": "twice", "segment": "a", "valid_from": DAY_40},
        {"user_id": "twice", "segment": "b", "valid_from": DAY_40},
        {"user_id": "long", "segment": "x" * 10_000, "valid_from": DAY_40},
        {"user_id": "null", "segment": "a", "valid_from": DAY_40},
        {"user_id": "", "segment": "😀", "valid_from": DAY_40},
    ]
    prepared = prepare_with(tmp_path, [*good, good[0], good[0], *bad], max_quarantined=0.5)
    counts = prepared.account["source"]
    assert counts["rows of users"] == 15 and counts["rows of users kept"] == 8
    assert counts["rows of users that stand twice"] == 2
    refused = {name.partition(": ")[2]: n for name, n in counts.items() if name.startswith("rows of users quarantined")}
    assert refused == {
        "the user has several rows of one valid_from that differ": 2,
        "segment is longer than 256 bytes": 1,
        "user_id means nobody": 1,
        "user_id is empty": 1,
    }
    assert sum(refused.values()) + 8 + 2 == 15
    assert sum("twice" in row for row in prepared.quarantine()["row"].to_pylist()) == 2
    with pytest.raises(UserError, match=r"5 of 13 rows of users are bad .*2 x the user has several rows"):
        prepare_with(tmp_path, [*good, good[0], *bad], max_quarantined=0.1)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"segment": {"kind": "category", "source": "user"}}, "no feature of source: user has model: true"),
        ({"sgment": {**SEGMENT["segment"]}}, "logs.files.users.features.sgment"),
        (
            {"age": {**SEGMENT["segment"], "column": "segment"}, **SEGMENT},
            "segment.column: reads the same column",
        ),
        ({"age": {**SEGMENT["segment"], "column": "user_id"}}, "age.column: is a column of the contract itself"),
    ],
)
def test_a_table_that_tells_nothing_is_refused(tmp_path: Path, features: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        prepare_with(tmp_path, [{"user_id": "user0", "segment": "a", "valid_from": DAY_40}], features)


def test_a_feature_of_users_needs_their_table(tmp_path: Path) -> None:
    sample = write_told_log(tmp_path / "log", {}, **SMALL)
    with pytest.raises(UserError, match=r"features.segment.source: the log has no table of users"):
        run(told_config(tmp_path, sample, SEGMENT), in_process=True)


def test_a_log_without_the_table_is_described_as_before() -> None:
    values: dict[str, Any] = {
        "source": "files",
        "files": {"events": "e", "catalogue": "c"},
        "split": {"by": "leave_last_out"},
    }
    logs = LogsConfig.parse(values)
    named = LogsConfig.parse({**values, "files": {**values["files"], "users": None}})
    other = LogsConfig.parse({**values, "files": {**values["files"], "users": "u"}})
    assert describe(logs, []) == describe(named, []) != describe(other, [])


def test_a_table_of_a_header_alone_is_refused(tmp_path: Path) -> None:
    sample = write_told_log(tmp_path / "log", {}, **SMALL)
    path = tmp_path / "users.csv"
    path.write_text("user_id,segment\n", encoding="utf-8")
    files = {"events": str(sample.events), "catalogue": str(sample.catalogue), "users": str(path)}
    with pytest.raises(UserError, match=r"logs\.files\.users"):
        run(told_config(tmp_path, sample, SEGMENT, files=files), in_process=True)
