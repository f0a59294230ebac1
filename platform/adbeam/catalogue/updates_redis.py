"""The update log in Redis, for replicas on many machines.

One stream whose entry ids are the numbers. A script gives the numbers, so that two writers never get the same one.
An append is as durable as the server makes it: give it `appendonly yes` and, for no loss at all, `appendfsync always`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from adbeam.catalogue.updates import PAGE, AdUpdate, Numbered, check_follows
from adbeam.errors import UserError

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
APPEND = """
local number = tonumber(redis.call('GET', KEYS[2]) or '0')
for place = 2, #ARGV do
    number = number + 1
    redis.call('XADD', KEYS[1], number .. '-1', 'timestamp_ms', ARGV[1], 'body', ARGV[place])
end
redis.call('SET', KEYS[2], number)
return number
"""
Answer = TypeVar("Answer")


class RedisUpdateLog:
    """UpdateLog in one Redis stream `key`; `key:last` holds the newest number."""

    def __init__(self, url: str, key: str, password: str | None = None) -> None:
        try:
            import redis
        except ImportError:
            raise UserError(
                "an update log in Redis needs the package redis", field="updates.redis_url", remedy="pip install redis"
            ) from None
        self._error: type[Exception] = redis.RedisError
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"  # without a password
        self._keys = [key, f"{key}:last"]
        try:
            self._redis: Any = redis.Redis.from_url(
                url, password=password, socket_timeout=TIMEOUT_SECONDS, decode_responses=True
            )
        except ValueError as error:
            raise UserError(str(error), field="updates.redis_url", value=self.name) from None
        self._append = self._redis.register_script(APPEND)
        if self._call(lambda: self._redis.config_get("appendonly")).get("appendonly") == "no":
            log.warning("%s runs without appendonly: a crash of it loses ad updates", self.name)

    def append(self, updates: Sequence[AdUpdate]) -> int:
        """One script: all of `updates` or none."""
        if not updates:
            return self.last()
        bodies = [update.model_dump_json(exclude_none=True) for update in updates]
        return int(self._call(lambda: self._append(keys=self._keys, args=[int(time.time() * 1000), *bodies])))

    def read(self, after: int, limit: int = PAGE) -> list[Numbered]:
        """One range of the stream. The newest number is read first: what is appended meanwhile is no gap."""
        last = self.last()
        rows = self._call(lambda: self._redis.xrange(self._keys[0], min=f"{after + 1}-0", count=limit))
        found = [(int(place.split("-")[0]), fields) for place, fields in rows]
        check_follows(after, found[0][0] if found else last + 1, self.name)
        return [
            Numbered(number, int(fields["timestamp_ms"]), AdUpdate.model_validate_json(fields["body"]))
            for number, fields in found
        ]

    def last(self) -> int:
        """Also right after `drop`: the number has a key of its own."""
        return int(self._call(lambda: self._redis.get(self._keys[1])) or 0)

    def drop(self, through: int) -> None:
        """Trim the stream."""
        self._call(lambda: self._redis.xtrim(self._keys[0], minid=f"{through + 1}-0", approximate=False))

    def _call(self, action: Callable[[], Answer]) -> Answer:
        try:
            return action()
        except self._error as error:
            raise UserError(f"{self.name} does not answer: {error}", field="updates.redis_url") from None
