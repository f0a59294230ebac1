"""Shards are stable and whole: order, exact duplicates, event ids used twice, sequences and splits."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.logs.account import Account
from adbeam.logs.settings.split import SplitConfig
from adbeam.logs.shards import Spill, assemble_shard, order_events, shard_of, to_sequences
from adbeam.records import EVENT_SCHEMA, SEQUENCE_SCHEMA

BY_TIME = SplitConfig(by="time", validation_from=100, test_from=200)
LAST_OUT = SplitConfig(by="leave_last_out")


def _event(user: str, moment: int, item: str = "a", **changes) -> dict:
    base: dict[str, Any] = {
        "event_id": f"{user}-{moment}-{item}",
        "request_id": f"r{moment}",
        "item_kind": "ad",
        "scene": "feed",
    }
    base |= {"user_id": user, "timestamp": moment, "item_id": item, "action": "conversion", "price": 2.0}
    return {**dict.fromkeys(EVENT_SCHEMA.names), **base, **changes}


def _table(*events: dict) -> pa.Table:
    return pa.Table.from_pylist(list(events), schema=EVENT_SCHEMA)


def test_a_user_is_always_in_the_same_shard():
    users = pa.array([f"u{number}" for number in range(2000)])
    shards = shard_of(users, 8)
    assert shard_of(pa.array(["u3", "u1"]), 8).tolist() == [shards[3], shards[1]]
    assert shard_of(pa.array(["household 900"]), 1 << 40).tolist() == [393302963325], (
        "blake2b of 8 bytes, big-endian: never to change"
    )
    assert np.bincount(shards, minlength=8).min() > 180


def test_exact_duplicates_go_and_a_reused_event_id_is_quarantined():
    twin = _event("u", 5)
    ordered, quarantine = order_events(_table(_event("u", 9, event_id="e"), twin, _event("u", 1, event_id="e"), twin))
    assert ordered["timestamp"].to_pylist() == [1, 5]
    assert quarantine["reason"].to_pylist() == ["event_id names another event of the user"]
    assert '"timestamp": 9' in quarantine["row"][0].as_py()


def test_two_users_may_use_one_event_id():
    ordered, quarantine = order_events(_table(_event("u", 1, event_id="e"), _event("v", 1, event_id="e")))
    assert ordered.num_rows == 2 and not quarantine.num_rows


def test_sequences_are_by_user_and_time():
    events = [_event("v", 7), _event("u", 150, "b", action="impression", price=None, bid=0.5), _event("u", 250, "c")]
    events += [_event("u", 99, "a"), _event("u", 100, "d", item_kind="organic", price=None)]
    sequences = to_sequences(order_events(_table(*events))[0], BY_TIME)
    assert sequences.schema == SEQUENCE_SCHEMA
    user = sequences.to_pylist()[0]
    assert user == {
        "user_id": "u",
        "split": [0, 1, 1, 2],
        "request_id": ["r99", "r100", "r150", "r250"],
        "timestamp": [99, 100, 150, 250],
        "item_id": ["a", "d", "b", "c"],
        "item_kind": [0, 1, 0, 0],
        "scene": ["feed"] * 4,
        "action": [3, 3, 0, 3],
        "value": [2.0, 0.0, 0.5, 2.0],
    }
    assert sequences["user_id"].to_pylist() == ["u", "v"]


def test_leave_last_out_goes_by_request():
    events = [_event("u", moment) for moment in (1, 2, 3, 4)] + [_event("u", 4, "b")]
    events += [_event("v", 1), _event("v", 2), _event("w", 5), _event("w", 6), _event("w", 9, "z", request_id="r5")]
    events += [_event("w", 7)]
    rows = to_sequences(order_events(_table(*events))[0], LAST_OUT).to_pylist()
    split = {row["user_id"]: row["split"] for row in rows}
    assert split["u"] == [0, 0, 1, 2, 2]
    assert split["v"] == [0, 0], "a user with two requests has none to spare"
    assert split["w"] == [0, 1, 2, 0], "r5 began first, so its late event is training too"


def test_what_was_spilled_is_assembled_whole(tmp_path):
    events = _table(*[_event(f"u{number % 7}", number) for number in range(50)])
    for share, rows in enumerate((events[:20], events[15:])):
        spill = Spill(tmp_path / "spill", share, 3, EVENT_SCHEMA)
        spill.write(rows[:5])
        spill.write(rows[5:])
        spill.close()
    dead = Spill(tmp_path / "spill", 2, 3, EVENT_SCHEMA)
    dead.write(_table(*[_event(f"u{number}", 1000) for number in range(7)]))
    for name in ("events", "sequences", "quarantine"):
        (tmp_path / name).mkdir()
    shards = [assemble_shard(tmp_path / "spill", shard, EVENT_SCHEMA, BY_TIME, tmp_path) for shard in range(3)]
    counts = [piece for pieces in shards for piece in pieces]
    assert sum(count.get("kept", 0) for count in counts) == 50
    assert sum(count.get("duplicates", 0) for count in counts) == 5
    written = pa.concat_tables([pq.read_table(file) for file in sorted((tmp_path / "events").iterdir())])
    assert sorted(written["timestamp"].to_pylist()) == list(range(50)), "nothing of the share that never closed"


@pytest.mark.parametrize("split", [BY_TIME, LAST_OUT])
def test_a_shard_in_pieces_is_the_same_files_as_the_whole(tmp_path, split, monkeypatch):
    monkeypatch.setattr("adbeam.logs.shards._EVENT_ROWS", 64)
    monkeypatch.setattr("adbeam.logs.shards._SEQUENCE_ROWS", 8)
    monkeypatch.setattr("adbeam.logs.events.pieces._SAMPLED", 3)
    users = ["heavy", "a", *(f"u{number}" for number in range(90)), "ü", "😀"]
    rows = [_event(users[number * number % 94 if number % 3 else 0], number % 300) for number in range(900)]
    for share in range(3):
        spill = Spill(tmp_path / "spill", share, 1, EVENT_SCHEMA)
        spill.write(_table(*rows[share * 250 : share * 250 + 400]))
        spill.close()
    digests, accounts = [], []
    for piece_rows in (10_000, 200, 1):
        target = tmp_path / f"of-{piece_rows}"
        for name in ("events", "sequences", "quarantine"):
            (target / name).mkdir(parents=True)
        pieces = assemble_shard(tmp_path / "spill", 0, EVENT_SCHEMA, split, target, piece_rows)
        assert (len(pieces) > 3) == (piece_rows < 1000)
        account = Account(tells_time=True)
        for counts in pieces:
            account.add(counts)
        accounts.append(account.to_dict())
        files = sorted(path for path in target.rglob("*.parquet"))
        digests.append({path.relative_to(target): hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert digests[0] == digests[1] == digests[2] and len(digests[0]) >= 2
    assert accounts[0] == accounts[1] == accounts[2] and accounts[0]["duplicates"] > 0


@pytest.mark.parametrize("split", [BY_TIME, LAST_OUT])
def test_a_shard_without_users_writes_nothing(tmp_path, split):
    assert assemble_shard(tmp_path / "spill", 0, EVENT_SCHEMA, split, tmp_path) == []
    assert list(tmp_path.iterdir()) == []
