"""Histories: counted once, in order, bounded, shared between replicas, loaded from prepared logs.

Every test that takes `open_store` holds for SQLite and for a real redis-server alike, with one server and with two.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.support.samples import TEST_FROM_MS
from tests.support.serving.store_events import Open, event

from adbeam.errors import UserError
from adbeam.records import ACTIONS
from adbeam.serving.stores.load import load_histories
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import HistoryStore, RemembersBatches, event_row, user_history


def test_an_event_counts_once_even_when_posted_twice_in_one_batch(open_one: Open) -> None:
    store = open_one()
    assert store.append([event(1), event(2), event(1)]) == [True, True, False]
    assert store.append([event(2), event(3)]) == [False, True]
    history = store.recent("u")
    assert history is not None and history.item_ids == ["item1", "item2", "item3"]
    assert store.recent("someone else") is None


def test_a_batch_that_is_given_again_changes_nothing_and_is_answered_as_it_was(open_one: Open) -> None:
    store, other = open_one(), open_one()
    assert isinstance(store, RemembersBatches) and isinstance(other, RemembersBatches)
    assert store.append([event(1)]) == [True]
    batch = [event(1), event(2), event(3, user="v")]
    for asked in (store, other):
        assert asked.append_once("log", 0, batch) == [False, True, True]
    assert other.append_once("log", 1, batch) == other.append_once("another", 0, batch) == [False] * 3
    other.forget_source("log")
    history = store.recent("u")
    assert history is not None and history.item_ids == ["item1", "item2"]


def test_history_is_in_time_order_and_keeps_the_newest(open_one: Open) -> None:
    store = open_one(max_events=3)
    store.append([event(1, timestamp=50), event(2, timestamp=10)])
    store.append([event(3, timestamp=30), event(4, timestamp=40)])
    history = store.recent("u")
    assert history is not None
    assert history.timestamp_H.tolist() == [30, 40, 50]
    assert history.item_ids == ["item3", "item4", "item1"]
    assert history.before(40).item_ids == ["item3"]


def test_an_event_is_worth_its_price_bid_or_ecpm() -> None:
    assert event_row(event(1, price=3.0, bid=9.0))[4] == 3.0
    assert event_row(event(1, action="click", bid=0.5, ecpm=7.0, price=3.0))[4] == 0.5
    assert event_row(event(1, action="impression", ecpm=7.0, price=None))[4] == 7.0
    assert event_row(event(1, price=None))[4] == 0.0
    assert event_row(event(1, action="click"))[2] == ACTIONS.index("click")


def test_several_users_are_read_at_once_in_the_order_asked(open_one: Open) -> None:
    store = open_one()
    store.append([event(number, user=f"u{number % 5}") for number in range(20)])
    found = store.recent_many(["u3", "nobody", "u0", "u3"])
    assert [None if h is None else h.item_ids[0] for h in found] == ["item3", None, "item0", "item3"]
    assert store.recent_many([]) == []


def test_every_field_of_an_event_is_kept(open_one: Open) -> None:
    store = open_one()
    name = "Ümläut \U0001f9c0"
    store.append([event(1, user=name, item_id=name, timestamp=1 << 53, action="click", item_kind="organic", bid=0.25)])
    history = open_one().recent(name)
    assert history is not None and history.item_ids == [name]
    assert history.timestamp_H.tolist() == [1 << 53] and history.value_H.tolist() == [0.25]
    assert ACTIONS[history.action_H[0]] == "click" and history.kind_H.tolist() == [1]


def test_two_replicas_see_and_do_not_lose_each_others_events(open_one: Open) -> None:
    stores = [open_one() for _ in range(2)]

    def post(which: int) -> None:
        for number in range(which * 100, which * 100 + 40):
            stores[which].append([event(number)])

    threads = [threading.Thread(target=post, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = stores[0].recent("u")
    assert history is not None and len(history) == 80


def test_the_same_event_through_two_replicas_at_once_counts_once(open_one: Open) -> None:
    stores, counted = [open_one() for _ in range(2)], []

    def post(store: HistoryStore) -> None:
        for number in range(30):
            counted.extend(store.append([event(number)]))

    threads = [threading.Thread(target=post, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.count(True) == counted.count(False) == 30
    history = stores[1].recent("u")
    assert history is not None and len(history) == 30


def test_of_two_replicas_that_fill_the_store_one_does_and_the_other_waits(open_one: Open) -> None:
    many = [(f"u{number}", user_history([(f"i{number}", number, 3, 0, 1.0)])) for number in range(1200)]
    written = []

    def fill() -> None:
        store = open_one()
        written.append(store.fill("a log", iter(many), [(0, "i1", 1)]))
        assert all(history is not None for history in store.recent_many([user for user, _ in many]))

    threads = [threading.Thread(target=fill) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [0, 0, 1200]
    assert open_one().conversions(1)[0] == {"i1": 1}


def test_event_ids_are_forgotten_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adbeam.serving.stores.sqlite.PRUNE_EVERY", 1)
    store = SqliteStore(tmp_path / "h.sqlite", max_event_ids=2)
    store.append([event(1), event(2), event(3)])
    assert store.append([event(2), event(3)]) == [False, False]
    assert store.append([event(1)]) == [True]


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "h.sqlite").write_text("not a database, " * 100)
    with pytest.raises(UserError, match=r"h\.sqlite"):
        SqliteStore(tmp_path / "h.sqlite")


def test_prepared_sequences_are_loaded_once(prepared: Path, open_one: Open) -> None:
    rows = [row for file in (prepared / "sequences").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    store = open_one()
    assert load_histories(prepared, store) == len(rows)
    for row in rows:
        history = store.recent(row["user_id"])
        assert history is not None
        assert history.item_ids == row["item_id"]
        assert history.timestamp_H.tolist() == row["timestamp"]
        assert history.action_H.tolist() == row["action"]
        assert history.value_H.tolist() == row["value"]
    store.append([event(1, user=rows[0]["user_id"], timestamp=rows[0]["timestamp"][-1] + 1)])
    assert load_histories(prepared, store) == 0
    assert store.recent(rows[0]["user_id"]).item_ids[-1] == "item1"  # type: ignore[union-attr]


def test_a_replay_keeps_later_events_out(prepared: Path, open_one: Open) -> None:
    store = open_one()
    assert load_histories(prepared, store, before_ms=TEST_FROM_MS) > 0
    users = [
        row["user_id"] for file in (prepared / "sequences").glob("*.parquet") for row in pq.read_table(file).to_pylist()
    ]
    histories = [store.recent(user) for user in users]
    assert max(int(h.timestamp_H[-1]) for h in histories if h is not None) < TEST_FROM_MS


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="manifest"):
        load_histories(tmp_path, SqliteStore(tmp_path / "h.sqlite"))
