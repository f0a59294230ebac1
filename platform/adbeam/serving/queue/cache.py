"""The result cache: answers kept a while, for requests that would otherwise be late."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from adbeam.serving.config import CacheConfig


class ResultCache:
    """Least recently used answers, bounded in number and age. Used from the event loop only."""

    def __init__(self, config: CacheConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._keys_of_user: dict[str, set[Hashable]] = {}
        self._user_of_key: dict[Hashable, str] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, user_id: str | None, key: Hashable, answer: Any) -> None:
        """Keep an answer of a known user; answers to nobody in particular are not kept."""
        if not self._config.enabled or user_id is None:
            return
        self._kept[key] = (self._clock() + self._config.ttl_seconds, answer)
        self._kept.move_to_end(key)
        self._keys_of_user.setdefault(user_id, set()).add(key)
        self._user_of_key[key] = user_id
        if len(self._kept) > self._config.max_entries:
            self._forget(next(iter(self._kept)))

    def get(self, key: Hashable) -> Any | None:
        """The kept answer, or None when there is none or it is too old."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found[0] < self._clock():
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return found[1]

    def forget_user(self, user_id: str) -> None:
        """Drop a user's answers: their history has changed."""
        for key in list(self._keys_of_user.get(user_id, ())):
            self._forget(key)

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self._keys_of_user.clear()
        self._user_of_key.clear()

    def _forget(self, key: Hashable) -> None:
        self._kept.pop(key, None)
        user_id = self._user_of_key.pop(key, None)
        keys = self._keys_of_user.get(user_id) if user_id is not None else None
        if user_id is not None and keys is not None:
            keys.discard(key)
            if not keys:
                del self._keys_of_user[user_id]
