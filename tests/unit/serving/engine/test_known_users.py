"""What is known of users when a batch is decoded: one read for both parts, the request's own words first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.serving.store_events import event

from adbeam.catalogue.blocked import Blocked
from adbeam.serving.engine.channel import Gathered
from adbeam.serving.engine.known_users import KnownUsers
from adbeam.serving.engine.request import HistoryEvent, Query
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.store import Known, UserHistory
from adbeam.targeting.features import FeatureConfig
from adbeam.targeting.told import Context

FEATURES = {
    "age": FeatureConfig(kind="number", source="user"),
    "country": FeatureConfig(kind="category"),
    "gender": FeatureConfig(kind="category", source="user"),
}


class CountingStore(SqliteStore):
    """Counts its reads, or refuses them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads: list[str] = []
        self.fails = False

    def recent_many(self, user_ids: Sequence[str]) -> list[UserHistory | None]:
        self.reads.append("histories")
        return super().recent_many(user_ids)

    def known_many(self, user_ids: Sequence[str]) -> list[Known]:
        self.reads.append("both")
        if self.fails:
            raise OSError("gone")
        return super().known_many(user_ids)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    store = CountingStore(tmp_path / "h.sqlite")
    store.append([event(1), event(2, user="v")])
    store.put_profiles({"u": '{"age":31,"gender":"F"}'})
    return store


def _query(user_id: str | None = "u", unread: tuple[str, ...] = (), context: Context = (), **more: Any) -> Query:
    return Query(user_id, more.get("history"), "display", 5, 0, Blocked(), context=context, unread=unread)


def _known(store: CountingStore, *queries: Query) -> list[Query]:
    _, profiles = KnownUsers(store, FEATURES, Gathered()).read(queries)
    return [query.knowing(profile) for query, profile in zip(queries, profiles, strict=True)]


def test_the_request_wins_and_the_profile_fills_what_it_does_not_tell(store: CountingStore) -> None:
    told = (("age", 5), ("country", "de"))
    asked, other = _known(store, _query(unread=("gender",), context=told), _query("v", unread=("age", "gender")))
    assert asked.context == (("age", 5), ("country", "de"), ("gender", "F")) and asked.unread == ()
    assert other.context == () and other.unread == ()
    assert store.reads == ["both"]


def test_nothing_is_paid_where_no_request_asks(store: CountingStore) -> None:
    nobody, told = _known(store, _query(None), _query(context=(("age", 5),)))
    assert store.reads == ["histories"]
    assert told.context == (("age", 5),) and nobody.context == ()


def test_an_inline_history_is_read_beside_the_stored_profile(store: CountingStore) -> None:
    query = _query(unread=("age", "gender"), history=(HistoryEvent(item_id="i", timestamp=5),))
    (history,), (profile,) = KnownUsers(store, FEATURES, Gathered()).read([query])
    assert history.item_ids == ["i"] and profile == (("age", 31), ("gender", "F"))


@pytest.mark.parametrize("broken", ["store", "profile"])
def test_what_cannot_be_read_stays_unread_and_is_counted(store: CountingStore, broken: str) -> None:
    if broken == "store":
        store.fails = True
    else:
        store.put_profiles({"u": "no json"})
    metrics, query = Gathered(), _query(unread=("age",))
    (history,), (profile,) = KnownUsers(store, FEATURES, metrics).read([query])
    assert profile is None and query.knowing(profile).unread == ("age",)
    assert len(history) == (broken == "profile")
    assert [name for _, name, *_ in metrics.taken()] == ["adbeam_store_failures"]
