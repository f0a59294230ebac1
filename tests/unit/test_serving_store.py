"""Histories: counted once, in order, bounded, shared between processes, loaded from prepared logs."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.samples import TEST_FROM_MS, write_sample_prepared

from adbeam.errors import UserError
from adbeam.records import ACTIONS, Event
from adbeam.serving.store import SqliteStore, event_row
from adbeam.serving.store_load import load_histories


def event(number: int, user: str = "u", timestamp: int | None = None, **changes: object) -> Event:
    values = {
        "event_id": f"e{number}", "request_id": "r", "user_id": user, "item_id": f"item{number}",
        "timestamp": number if timestamp is None else timestamp, "action": "conversion", "price": 2.5,
    }  # fmt: skip
    return Event.model_validate({**values, **changes})


def test_an_event_counts_once_even_when_posted_twice_in_one_batch(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.sqlite")
    assert store.append([event(1), event(2), event(1)]) == [True, True, False]
    assert store.append([event(2), event(3)]) == [False, True]
    history = store.recent("u")
    assert history is not None and history.item_ids == ["item1", "item2", "item3"]
    assert store.recent("someone else") is None


def test_history_is_in_time_order_and_keeps_the_newest(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.sqlite", max_events=3)
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


def test_two_stores_on_one_file_see_and_do_not_lose_each_others_events(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "h.sqlite") for _ in range(2)]

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


def test_event_ids_are_forgotten_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adbeam.serving.store.PRUNE_EVERY", 1)
    store = SqliteStore(tmp_path / "h.sqlite", max_event_ids=2)
    store.append([event(1), event(2), event(3)])
    assert store.append([event(2), event(3)]) == [False, False]
    assert store.append([event(1)]) == [True]


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "h.sqlite").write_text("not a database, " * 100)
    with pytest.raises(UserError, match=r"h\.sqlite"):
        SqliteStore(tmp_path / "h.sqlite")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_prepared(tmp_path_factory.mktemp("log"), users=12, items=40, visits=8).folder


def test_prepared_sequences_are_loaded_once(prepared: Path, tmp_path: Path) -> None:
    rows = [row for file in (prepared / "sequences").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    store = SqliteStore(tmp_path / "h.sqlite")
    assert load_histories(prepared, store) == len(rows) == store.count_users()
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


def test_a_replay_keeps_later_events_out(prepared: Path, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.sqlite")
    assert load_histories(prepared, store, before_ms=TEST_FROM_MS) > 0
    users = [
        row["user_id"] for file in (prepared / "sequences").glob("*.parquet") for row in pq.read_table(file).to_pylist()
    ]
    histories = [store.recent(user) for user in users]
    assert max(int(h.timestamp_H[-1]) for h in histories if h is not None) < TEST_FROM_MS


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="manifest"):
        load_histories(tmp_path, SqliteStore(tmp_path / "h.sqlite"))
