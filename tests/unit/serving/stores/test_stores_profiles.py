"""Profiles beside the histories: read with them, replaced as a whole, gone after their days or when asked."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
import redis
from tests.support.serving.store_events import Open, event, redis_settings

from adbeam.serving.stores.load import open_store
from adbeam.serving.stores.profiles import profile_text, read_profile
from adbeam.serving.stores.redis import RedisStore
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import DAY_SECONDS, Known, now_ms
from adbeam.targeting.features import FeatureConfig
from adbeam.targeting.told import Context

FEATURES = {
    "age": FeatureConfig(kind="number", source="user"),
    "gender": FeatureConfig(kind="category", source="user"),
    "likes": FeatureConfig(kind="list", source="user"),
}


def test_what_is_kept_is_read_with_the_history_in_the_order_asked(open_one: Open) -> None:
    store = open_one()
    store.append([event(1, user="both"), event(2, user="history only")])
    store.put_profiles({"both": '{"age":31}', "profile only": '{"gender":"Ü😀"}'})
    both, nobody, profile, history, again = open_one().known_many(
        ["both", "nobody", "profile only", "history only", "both"]
    )
    assert both.profile == again.profile == '{"age":31}'
    assert both.history is not None and both.history.item_ids == ["item1"]
    assert nobody == Known(None, None)
    assert profile == Known(None, '{"gender":"Ü😀"}')
    assert history.profile is None and history.history is not None and history.history.item_ids == ["item2"]
    assert store.known_many([]) == []
    assert store.recent("both") is not None and store.recent("profile only") is None


def test_a_profile_is_replaced_as_a_whole_and_an_empty_one_takes_it_out(open_one: Open) -> None:
    store = open_one()
    store.append([event(1)])
    for _ in range(2):
        store.put_profiles({"u": '{"age":31,"gender":"F"}'})
    store.put_profiles({"u": '{"age":32}'})
    assert store.known_many(["u"])[0].profile == '{"age":32}'
    for _ in range(2):
        store.put_profiles({"u": ""})
    known = store.known_many(["u"])[0]
    assert known.profile is None and known.history is not None
    store.put_profiles({})


def test_a_profile_is_kept_for_its_days_from_the_last_time_it_was_posted(open_one: Open) -> None:
    seconds = 0.6
    store = open_one(profile_days=seconds / DAY_SECONDS)
    store.append([event(1)])
    store.put_profiles({"u": '{"age":31}', "other": '{"age":5}'})
    threading.Event().wait(seconds / 2)
    store.put_profiles({"u": '{"age":31}'})
    threading.Event().wait(0.75 * seconds)
    u, other = store.known_many(["u", "other"])
    assert u.profile is not None and other.profile is None
    threading.Event().wait(seconds / 2)
    assert store.known_many(["u"])[0].profile is None and store.recent("u") is not None
    assert store.forget("u") == (False, True)


def test_a_user_is_forgotten_whole_and_once(open_one: Open) -> None:
    store = open_one()
    store.append([event(1), event(2, user="other")])
    store.put_profiles({"u": '{"age":31}', "other": '{"age":5}'})
    assert store.forget("u") == (True, True)
    assert store.forget("u") == (False, False)
    u, other = open_one().known_many(["u", "other"])
    assert u == Known(None, None) and other.profile == '{"age":5}' and other.history is not None
    assert store.append([event(1), event(3)]) == [False, True]
    history = store.recent("u")
    assert history is not None and history.item_ids == ["item3"]


def test_a_user_forgotten_while_events_come_keeps_none_of_before(open_one: Open) -> None:
    posting, forgetting = open_one(), open_one()
    posting.append([event(1, timestamp=1)])

    def post() -> None:
        for number in range(100, 160):
            posting.append([event(number)])

    thread = threading.Thread(target=post)
    thread.start()
    forgotten = forgetting.forget("u")
    thread.join()
    posting.append([event(500)])
    history = posting.recent("u")
    assert forgotten.history and history is not None and "item1" not in history.item_ids


def test_a_file_of_before_profiles_opens_and_keeps_its_histories(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    SqliteStore(path).append([event(1)])
    with sqlite3.connect(path) as connection:
        connection.execute("DROP INDEX profiles_by_age")
        connection.execute("DROP TABLE profiles")
    store = SqliteStore(path)
    store.put_profiles({"u": '{"age":31}'})
    known = store.known_many(["u"])[0]
    assert known.profile == '{"age":31}' and known.history is not None and known.history.item_ids == ["item1"]


def test_rows_of_sqlite_that_are_too_old_go_with_the_next_profiles(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.sqlite", profile_days=1)
    with store.transaction() as connection:
        old_ms = now_ms() - 2 * DAY_SECONDS * 1000
        connection.executemany("INSERT INTO profiles VALUES (?, '{}', ?)", [(f"u{n}", old_ms) for n in range(50)])
    store.put_profiles({"u": '{"age":31}'})
    with store.transaction() as connection:
        assert connection.execute("SELECT user_id FROM profiles").fetchall() == [("u",)]


def test_one_command_reads_both_from_redis_and_the_keys_of_histories_stay(redis_url: str) -> None:
    store = open_store(redis_settings(redis_url, key_prefix="both", read_timeout_ms=2000))
    assert isinstance(store, RedisStore)
    store.append([event(1)])
    store.put_profiles({"u": '{"age":31}', "v": '{"age":32}'})
    (client,) = store._writers
    assert client.exists("both:history:u", "both:profile:u") == 2 and client.ttl("both:profile:u") > 89 * DAY_SECONDS
    before = client.info("commandstats")["cmdstat_mget"]["calls"]
    assert [known.profile for known in store.known_many(["u", "v", "w"])] == ['{"age":31}', '{"age":32}', None]
    assert client.info("commandstats")["cmdstat_mget"]["calls"] == before + 1


def test_a_redis_that_went_away_fails_reads_of_both_at_once(redis_url: str) -> None:
    store = open_store(redis_settings(redis_url, key_prefix="gone"))
    assert isinstance(store, RedisStore)
    store._resting_until_s = float("inf")
    with pytest.raises(redis.ConnectionError, match="a moment ago"):
        store.known_many(["u"])


@pytest.mark.parametrize(
    "told", [(), (("age", 31.5),), (("age", 31), ("gender", "Ü😀"), ("likes", ("5", "tea")))], ids=str
)
def test_a_profile_is_read_back_as_it_was_told(told: Context) -> None:
    text = profile_text(told)
    assert (text == "") == (told == ())
    assert read_profile(text or None, FEATURES) == told


def test_what_is_declared_no_longer_or_as_another_kind_is_missing() -> None:
    text = '{"age":"old","gender":["F"],"likes":"tea","city":"x"}'
    assert read_profile(text, FEATURES) == ()
    assert read_profile(text, {"city": FeatureConfig(kind="category", source="user")}) == (("city", "x"),)
    assert read_profile('{"age":31}', {"age": FeatureConfig(kind="list", source="user")}) == ()
