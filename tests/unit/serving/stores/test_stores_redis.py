"""What is of Redis alone: the packed form, passwords, servers that go away, locks that run out."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.support.redis_server import free_port, redis_server
from tests.support.serving.store_events import event, redis_settings

from adbeam.errors import UserError
from adbeam.serving.config import StoreConfig
from adbeam.serving.stores.load import open_store
from adbeam.serving.stores.redis import RedisStore, pack, unpack
from adbeam.serving.stores.store import UserHistory, user_history

PORT = free_port()


def test_the_packed_form_is_read_back_as_it_was() -> None:
    rows = [(f"item {number}", 10**12 + number, number % 4, number % 2, number / 7) for number in range(300)]
    history, again = user_history(rows), unpack(pack(user_history(rows)))
    assert again.item_ids == history.item_ids and len(pack(history)) < 300 * 26
    for name in ("timestamp_H", "action_H", "kind_H", "value_H"):
        assert getattr(again, name).tolist() == getattr(history, name).tolist()


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
    with redis_server(tmp_path, PORT, "--requirepass", "open sesame") as url:
        with pytest.raises(UserError, match="ADBEAM_REDIS_PASSWORD"):
            open_store(redis_settings(url))
        monkeypatch.setenv("ADBEAM_REDIS_PASSWORD", "wrong")
        with pytest.raises(UserError, match="refused us"):
            open_store(redis_settings(url))
        monkeypatch.setenv("ADBEAM_REDIS_PASSWORD", "open sesame")
        assert open_store(redis_settings(url)).append([event(1)]) == [True]


def test_a_server_that_evicts_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(tmp_path, PORT, "--maxmemory-policy", "allkeys-lru") as url, caplog.at_level(logging.WARNING):
        open_store(redis_settings(url))
    assert "allkeys-lru" in caplog.text


def test_a_server_that_went_away_fails_reads_at_once_and_is_used_again_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr("adbeam.serving.stores.redis.time.monotonic", lambda: float(next(clock)) / 100)
    with redis_server(tmp_path, PORT) as url:
        store = open_store(redis_settings(url))
        assert isinstance(store, RedisStore)
        store.append([event(1)])
    with pytest.raises(redis.ConnectionError, match="onnection"):
        store.recent("u")
    with pytest.raises(redis.ConnectionError, match="a moment ago"):
        store.recent("u")
    with pytest.raises(redis.ConnectionError, match="onnection"):
        store.append([event(2)])
    with redis_server(tmp_path, PORT):
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
