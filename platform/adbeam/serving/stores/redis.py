"""User histories in Redis: one store for the replicas of many machines.

A user's history is one value of packed arrays, as in SQLite. An append watches the keys it changes and writes them in
one transaction, so two replicas never lose each other's events and an event counts once. Users are spread over the
given servers by a hash of their id; the events of one append are all or nothing on each server.
"""

from __future__ import annotations

import json
import os
import random
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Self, TypeVar

import numpy as np
import redis
from redis.exceptions import LockError

from adbeam.errors import UserError
from adbeam.logs.trending import WINDOWS_HOURS, windows_of
from adbeam.records import Event
from adbeam.serving.config import RedisStoreConfig, StoreConfig
from adbeam.serving.stores.redis_servers import check, connect
from adbeam.serving.stores.store import (
    DAY_SECONDS,
    EMPTY,
    KEPT_HOURS,
    Forgotten,
    HourCount,
    Known,
    UserHistory,
    event_row,
    hour_counts,
    user_history,
)

CONFLICT_SECONDS = 30.0
"""An append is tried again for so long while other replicas write for the same users."""
REST_SECONDS = 1.0
"""After a read that failed, reads fail at once for so long: a dead server must not cost every batch its time-out."""
FILL_USERS = 500
FILL_LOCK_SECONDS = 15
"""Renewed after every FILL_USERS users: a replica that dies while it loads holds the others up no longer than this."""
LAYOUT = (("<i8", 8), ("<f4", 4), ("<i1", 1), ("<i1", 1))
"""Timestamps, values, actions, kinds; the item ids follow as JSON."""
Answer = TypeVar("Answer")


class RedisStore:
    """HistoryStore in one or more Redis servers; raises UserError when one of them cannot be used."""

    def __init__(self, config: RedisStoreConfig, *, max_events: int = 1024, profile_days: float = 90.0) -> None:
        self.config, self.max_events, self.profile_days = config, max_events, profile_days
        if not config.urls:
            raise UserError("names no server", field="store.redis.urls", remedy="give one, as redis://host:6379/0")
        password = os.environ.get(config.password_env) or None
        self._readers = [connect(url, password, config.read_timeout_ms) for url in config.urls]
        self._writers = [connect(url, password, config.write_timeout_ms) for url in config.urls]
        self._resting_until_s = 0.0
        for url, client in zip(config.urls, self._writers, strict=True):
            check(url, client, config)

    @classmethod
    def of(cls, config: StoreConfig) -> Self:
        """The store of a configuration."""
        return cls(config.redis, max_events=config.max_events, profile_days=config.profile_days)

    def recent(self, user_id: str) -> UserHistory | None:
        """The user's newest events, or None for an unknown user; raises redis.RedisError."""
        return self.recent_many([user_id])[0]

    def recent_many(self, user_ids: Sequence[str]) -> list[UserHistory | None]:
        """One round trip a server; raises redis.RedisError."""
        (found,) = self._values(user_ids, self._history)
        return [None if (value := found[user_id]) is None else unpack(value) for user_id in user_ids]

    def known_many(self, user_ids: Sequence[str]) -> list[Known]:
        """One round trip a server for histories and profiles; raises redis.RedisError."""
        histories, profiles = self._values(user_ids, self._history, self._profile)
        return [
            Known(
                None if (history := histories[user_id]) is None else unpack(history),
                None if (profile := profiles[user_id]) is None else profile.decode(),
            )
            for user_id in user_ids
        ]

    def put_profiles(self, profiles: Mapping[str, str]) -> None:
        """Write profiles, each of which Redis drops after its days; raises redis.RedisError."""
        for shard, entries in self._by_shard(profiles.items(), lambda entry: entry[0]).items():
            pipe = self._writers[shard].pipeline(transaction=False)
            for user_id, text in entries:
                if text:
                    pipe.set(self._profile(user_id), text, px=int(self.profile_days * DAY_SECONDS * 1000))
                else:
                    pipe.delete(self._profile(user_id))
            pipe.execute()

    def forget(self, user_id: str) -> Forgotten:
        """Take a user's profile and history out together; raises redis.RedisError."""
        ((shard, _),) = self._by_shard([user_id], lambda user: user).items()
        with self._writers[shard].pipeline() as pipe:
            pipe.delete(self._profile(user_id))
            pipe.delete(self._history(user_id))
            profile, history = pipe.execute()
        return Forgotten(bool(profile), bool(history))

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Add events; for each, whether its id was new. Raises redis.RedisError; sending them again is safe."""
        return self._appended(events, None)

    def append_once(self, source: str, number: int, events: Sequence[Event]) -> list[bool]:
        """Add a batch of an event log (RemembersBatches), which is remembered as long as event ids are; raises
        redis.RedisError. What the disk has then is Redis' own setting (appendfsync)."""
        return self._appended(events, f"{self.config.key_prefix}:batch:{source}:{number}")

    def forget_source(self, source: str) -> None:
        """Nothing: batches go when their time is over."""

    def _appended(self, events: Sequence[Event], batch: str | None) -> list[bool]:
        fresh: dict[int, bool] = {}
        for shard, placed in self._by_shard(list(enumerate(events)), lambda entry: entry[1].user_id).items():
            new = self._append(self._writers[shard], [event for _, event in placed], batch)
            fresh.update({place: is_new for (place, _), is_new in zip(placed, new, strict=True)})
        return [fresh[place] for place in range(len(events))]

    def conversions(self, hour: int) -> tuple[Counter[str], ...]:
        """{item: ad conversions} of every window of logs.trending that ends where `hour` begins; one round trip a
        server. Raises redis.RedisError."""
        hours = range(hour - WINDOWS_HOURS[-1], hour)
        rows: list[HourCount] = []
        for client in self._writers:  # a week of counts may take longer than a batch would wait for a history
            pipe = client.pipeline(transaction=False)
            for at in hours:
                pipe.hgetall(self._conversions(at))
            for at, counts in zip(hours, pipe.execute(), strict=True):
                rows.extend((at, item.decode(), int(count)) for item, count in counts.items())
        return windows_of(rows, hour)

    def fill(
        self, source: str, histories: Iterable[tuple[str, UserHistory]], conversions: Iterable[HourCount] = ()
    ) -> int:
        """Write many histories once, whichever replica comes first; returns users written, 0 when it was done before.

        The others wait. What a user has done since is never overwritten.
        """
        first, facts = self._writers[0], f"{self.config.key_prefix}:facts"
        lock = first.lock(f"{self.config.key_prefix}:loading", timeout=FILL_LOCK_SECONDS)
        while True:
            with suppress(LockError, redis.WatchError), lock:  # a lock that ran out: another replica may be at it
                if first.hget(facts, "loaded_from") is not None:
                    return 0
                users = self._fill(histories, lock.reacquire)
                with first.pipeline() as done:  # the counts and the note that they are in: both or neither, and once
                    done.watch(facts)
                    lock.reacquire()
                    done.multi()
                    self._count(done, conversions)
                    done.hset(facts, "loaded_from", source)
                    done.execute()
                return users

    def close(self) -> None:
        """Close the connections."""
        for client in (*self._readers, *self._writers):
            client.close()

    def _fill(self, histories: Iterable[tuple[str, UserHistory]], still_here: Callable[[], object]) -> int:
        users, left = 0, iter(histories)
        while batch := list(islice(left, FILL_USERS)):
            for shard, entries in self._by_shard(batch, lambda entry: entry[0]).items():
                pipe = self._writers[shard].pipeline(transaction=False)
                for user_id, history in entries:
                    pipe.set(self._history(user_id), pack(history.newest(self.max_events)), nx=True)
                pipe.execute()
            still_here()
            users += len(batch)
        return users

    def _append(self, client: Any, events: Sequence[Event], batch: str | None) -> list[bool]:
        until_s, wait_s = time.monotonic() + CONFLICT_SECONDS, 0.002
        while True:
            try:
                with client.pipeline() as pipe:
                    return self._transaction(pipe, events, batch)
            except redis.WatchError:  # another replica wrote for one of these users
                if time.monotonic() > until_s:
                    raise
                time.sleep(random.uniform(0, wait_s))
                wait_s = min(2 * wait_s, 0.25)

    def _transaction(self, pipe: Any, events: Sequence[Event], batch: str | None) -> list[bool]:
        users = list(dict.fromkeys(event.user_id for event in events))
        ids = list(dict.fromkeys(event.event_id for event in events))
        keys = [self._history(user) for user in users] + [self._event(event_id) for event_id in ids]
        pipe.watch(*keys)
        if batch is not None and (said := pipe.get(batch)) is not None:
            return [bool(is_new) for is_new in said]
        values = pipe.mget(keys)
        seen = {event_id for event_id, value in zip(ids, values[len(users) :], strict=True) if value is not None}
        fresh = []
        for event in events:
            fresh.append(event.event_id not in seen)
            seen.add(event.event_id)
        pipe.multi()
        for user, value in zip(users, values, strict=False):
            added = [event_row(e) for e, is_new in zip(events, fresh, strict=True) if is_new and e.user_id == user]
            if added:
                history = (unpack(value) if value else EMPTY).extended(user_history(added))
                pipe.set(self._history(user), pack(history.newest(self.max_events)))
        self._count(pipe, hour_counts(e for e, is_new in zip(events, fresh, strict=True) if is_new))
        for event, is_new in zip(events, fresh, strict=True):
            if is_new:
                pipe.set(self._event(event.event_id), b"", ex=self.config.event_id_seconds)
        if batch is not None:
            pipe.set(batch, bytes(fresh), ex=self.config.event_id_seconds)
        pipe.execute()
        return fresh

    def _values(self, user_ids: Sequence[str], *keys: Callable[[str], str]) -> list[dict[str, bytes | None]]:
        """What lies under each key of each user, a mapping a key."""
        if time.monotonic() < self._resting_until_s:
            raise redis.ConnectionError("Redis did not answer a moment ago")
        found: list[dict[str, bytes | None]] = [{} for _ in keys]
        try:
            for shard, users in self._by_shard(user_ids, lambda user_id: user_id).items():
                values = self._readers[shard].mget([key(user) for key in keys for user in users])
                for place, held in enumerate(found):
                    held.update(zip(users, values[place * len(users) :], strict=False))
        except redis.RedisError:
            self._resting_until_s = time.monotonic() + REST_SECONDS
            raise
        return found

    def _by_shard(self, entries: Iterable[Answer], user_of: Callable[[Answer], str]) -> dict[int, list[Answer]]:
        found: dict[int, list[Answer]] = {}
        for entry in entries:
            shard = zlib.crc32(user_of(entry).encode("utf-8", "surrogateescape")) % len(self._writers)
            found.setdefault(shard, []).append(entry)
        return found

    def _count(self, client: Any, counts: Iterable[HourCount]) -> None:
        """Add to the counts of ad conversions by hour; a key goes KEPT_HOURS after its last change."""
        for hour, item, count in counts:
            client.hincrby(self._conversions(hour), item, count)
            client.expire(self._conversions(hour), KEPT_HOURS * 3600)

    def _conversions(self, hour: int) -> str:
        return f"{self.config.key_prefix}:conversions:{hour}"

    def _history(self, user_id: str) -> str:
        return f"{self.config.key_prefix}:history:{user_id}"

    def _profile(self, user_id: str) -> str:
        return f"{self.config.key_prefix}:profile:{user_id}"

    def _event(self, event_id: str) -> str:
        return f"{self.config.key_prefix}:event:{event_id}"


def pack(history: UserHistory) -> bytes:
    """A history as one value: its length, the arrays of LAYOUT, the item ids."""
    arrays: tuple[np.ndarray, ...] = (history.timestamp_H, history.value_H, history.action_H, history.kind_H)
    parts = [array.astype(kind).tobytes() for array, (kind, _) in zip(arrays, LAYOUT, strict=True)]
    return b"".join([len(history).to_bytes(4, "little"), *parts, json.dumps(history.item_ids).encode()])


def unpack(value: bytes) -> UserHistory:
    """The history in a value that `pack` made."""
    length, at = int.from_bytes(value[:4], "little"), 4
    arrays = []
    for kind, size in LAYOUT:
        arrays.append(np.frombuffer(value, kind, length, at))
        at += size * length
    timestamp_H, value_H, action_H, kind_H = arrays
    return UserHistory(json.loads(value[at:]), timestamp_H, action_H, kind_H, value_H)
