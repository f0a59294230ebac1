"""Histories: counted once, in order, bounded, shared between replicas, loaded from prepared logs.

Every test that takes `open_store` holds for SQLite and for a real redis-server alike, with one server and with two.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis
from tests.support.redis_server import redis_server
from tests.support.samples import TEST_FROM_MS, write_sample_prepared

from adbeam.errors import UserError
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.logs.trending import count_by_hour, windows_of
from adbeam.model.config import ModelConfig
from adbeam.records import ACTIONS, HOUR_MS, Event
from adbeam.serving.config import StoreConfig
from adbeam.serving.stores.load import load_histories, open_store
from adbeam.serving.stores.redis import RedisStore, pack, unpack
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import HistoryStore, UserHistory, event_row, user_history
from adbeam.serving.stores.trends import FRESH_SECONDS, StoreTrends

PORT = 18810
Open = Callable[..., HistoryStore]


def event(number: int, user: str = "u", timestamp: int | None = None, **changes: object) -> Event:
    values = {
        "event_id": f"e{number}", "request_id": "r", "user_id": user, "item_id": f"item{number}",
        "timestamp": number if timestamp is None else timestamp, "action": "conversion", "price": 2.5,
    }  # fmt: skip
    return Event.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis"), PORT) as url:
        yield url


@pytest.fixture(params=["sqlite", "redis", "two redis"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again and again."""
    settings: dict[str, object] = {"path": tmp_path / "h.sqlite"}
    if request.param != "sqlite":
        url = request.getfixturevalue("redis_url")
        urls = [f"{url}/{database}" for database in range(1 + (request.param == "two redis"))]
        settings = {"backend": "redis", "redis": {"urls": urls, "key_prefix": tmp_path.name, "read_timeout_ms": 2000}}
    opened: list[HistoryStore] = []

    def open_again(**more: object) -> HistoryStore:
        opened.append(open_store(StoreConfig.parse({**settings, **more})))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


def test_an_event_counts_once_even_when_posted_twice_in_one_batch(open_one: Open) -> None:
    store = open_one()
    assert store.append([event(1), event(2), event(1)]) == [True, True, False]
    assert store.append([event(2), event(3)]) == [False, True]
    history = store.recent("u")
    assert history is not None and history.item_ids == ["item1", "item2", "item3"]
    assert store.recent("someone else") is None


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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_prepared(tmp_path_factory.mktemp("log"), users=12, items=40, visits=8).folder


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


def test_the_packed_form_is_read_back_as_it_was() -> None:
    rows = [(f"item {number}", 10**12 + number, number % 4, number % 2, number / 7) for number in range(300)]
    history, again = user_history(rows), unpack(pack(user_history(rows)))
    assert again.item_ids == history.item_ids and len(pack(history)) < 300 * 26
    for name in ("timestamp_H", "action_H", "kind_H", "value_H"):
        assert getattr(again, name).tolist() == getattr(history, name).tolist()


def redis_settings(url: str, **more: object) -> StoreConfig:
    return StoreConfig.parse({"backend": "redis", "redis": {"urls": [url], **more}})


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ([], "names no server"),
        (["redis://127.0.0.1:18819/0"], "no Redis answers"),
        (["http://127.0.0.1:18819"], "must specify one of the following schemes"),
        (["redis://:secret@127.0.0.1:18819"], "password does not belong into YAML"),
    ],
)
def test_a_redis_that_cannot_be_used_is_one_clear_message(urls: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        open_store(StoreConfig.parse({"backend": "redis", "redis": {"urls": urls}}))
    assert "store.redis.urls" in str(refused.value) and "secret" not in str(refused.value)


def test_the_password_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server(tmp_path, PORT + 1, "--requirepass", "open sesame") as url:
        with pytest.raises(UserError, match="ADBEAM_REDIS_PASSWORD"):
            open_store(redis_settings(url))
        monkeypatch.setenv("ADBEAM_REDIS_PASSWORD", "wrong")
        with pytest.raises(UserError, match="refused us"):
            open_store(redis_settings(url))
        monkeypatch.setenv("ADBEAM_REDIS_PASSWORD", "open sesame")
        assert open_store(redis_settings(url)).append([event(1)]) == [True]


def test_a_server_that_evicts_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(tmp_path, PORT + 1, "--maxmemory-policy", "allkeys-lru") as url, caplog.at_level(logging.WARNING):
        open_store(redis_settings(url))
    assert "allkeys-lru" in caplog.text


def test_a_server_that_went_away_fails_reads_at_once_and_is_used_again_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr("adbeam.serving.stores.redis.time.monotonic", lambda: float(next(clock)) / 100)
    with redis_server(tmp_path, PORT + 1) as url:
        store = open_store(redis_settings(url))
        assert isinstance(store, RedisStore)
        store.append([event(1)])
    with pytest.raises(redis.ConnectionError, match="onnection"):
        store.recent("u")
    with pytest.raises(redis.ConnectionError, match="a moment ago"):
        store.recent("u")
    with pytest.raises(redis.ConnectionError, match="onnection"):
        store.append([event(2)])
    with redis_server(tmp_path, PORT + 1):
        for _ in range(200):
            next(clock)
        assert store.append([event(2)]) == [True]
        history = store.recent("u")
        assert history is not None and history.item_ids == ["item2"]


def test_event_ids_in_redis_are_forgotten_after_their_time(redis_url: str) -> None:
    store = open_store(redis_settings(redis_url, key_prefix="ids", event_id_seconds=1))
    assert isinstance(store, RedisStore)
    assert store.append([event(1), event(1)]) == [True, False]
    (client,) = store._writers
    assert 0 < client.pttl("ids:event:e1") <= 1000


def test_a_fill_whose_lock_ran_out_counts_nothing_twice(redis_url: str) -> None:
    one, two = (open_store(redis_settings(redis_url, key_prefix="lost")) for _ in range(2))
    assert isinstance(one, RedisStore)
    (client,), rows = one._writers, [("u", user_history([("i1", 1, 3, 0, 1.0)]))]

    def stalls() -> Iterator[tuple[str, UserHistory]]:
        yield from rows
        client.delete("lost:loading")
        assert two.fill("a log", iter(rows), [(0, "i1", 1)]) == 1

    assert one.fill("a log", stalls(), [(0, "i1", 1)]) == 0
    assert two.conversions(1)[0] == {"i1": 1}


def ad_conversion(number: int, item: str, hour: int, **changes: Any) -> Event:
    return event(number, timestamp=hour * HOUR_MS + number, item_id=item, item_kind="ad", **changes)


def test_ad_conversions_are_counted_once_by_hour_for_all_users(open_one: Open) -> None:
    store = open_one()
    store.append([ad_conversion(1, "a", 500), ad_conversion(2, "a", 500, user="v"), ad_conversion(3, "b", 480)])
    store.append([ad_conversion(1, "a", 500), ad_conversion(4, "a", 501), ad_conversion(5, "c", 340)])
    store.append([event(6, timestamp=500 * HOUR_MS, item_kind="organic"), ad_conversion(7, "d", 500, action="click")])
    day, three_days, week = open_one().conversions(501)
    assert day == {"a": 2, "b": 1} and three_days == {"a": 2, "b": 1} and week == {"a": 2, "b": 1, "c": 1}
    assert store.conversions(480)[2] == {"c": 1} and store.conversions(2000) == ({}, {}, {})


def test_a_loaded_log_brings_its_conversions_once(open_one: Open, prepared: Path) -> None:
    store = open_one()
    load_histories(prepared, store)
    load_histories(prepared, open_one())
    counted = count_by_hour(pq.read_table(prepared / "sequences"))
    last = max(counted["hour"].to_pylist())
    rows = zip(*(counted[name].to_pylist() for name in counted.column_names), strict=True)
    assert store.conversions(last + 1) == windows_of(rows, last + 1)
    assert sum(store.conversions(last + 1)[0].values()) > 0


def test_trends_of_a_replica_are_those_of_its_store_and_renewed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.sqlite")
    sids = SidTable.of(["a", "b"], np.array([[1, 2], [3, 4]], dtype=np.int32))
    spec = FeatureSpec.of(ModelConfig(codebooks=(8, 8), trending_length=3))
    seconds = [0.0]
    trends = StoreTrends(store, sids, spec, clock=lambda: seconds[0])
    moment = 501 * HOUR_MS
    assert (trends.at(moment)[0] == -1).all()
    store.append([ad_conversion(1, "a", 500), ad_conversion(2, "unknown", 500)])
    assert (trends.at(moment)[0] == -1).all()  # a minute old at most
    seconds[0] = FRESH_SECONDS + 1
    trends.at(moment)
    for thread in threading.enumerate():
        if thread.name == "trends":
            thread.join()
    assert trends.at(moment)[0].tolist() == [[1, 2], [-1, -1], [-1, -1]]
    store.close()


def test_a_store_that_cannot_be_read_has_no_trends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(tmp_path / "h.sqlite")
    with store.transaction() as connection:
        connection.execute("DROP TABLE conversions")
    spec = FeatureSpec.of(ModelConfig(codebooks=(8, 8), trending_length=3))
    trends = StoreTrends(store, SidTable.of(["a"], np.array([[1, 2]], dtype=np.int32)), spec)
    assert (trends.at(501 * HOUR_MS)[0] == -1).all() and "conversions cannot be read" in caplog.text
    store.close()
