"""The ledger in Redis, for replicas on many machines. Scripts count events, so that one counts once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis

from adbeam.budgets.ledger import KEPT_DAYS, Account, Budget, Spending
from adbeam.errors import UserError
from adbeam.records import HOUR_MS

TIMEOUT_SECONDS = 5.0
SPEND = """
local fresh = 0
for place = 2, #ARGV, 4 do
    if redis.call('SET', KEYS[1] .. ':counted:' .. ARGV[place], '', 'NX', 'EX', ARGV[1]) then
        redis.call('HINCRBYFLOAT', KEYS[1] .. ':spent:' .. ARGV[place + 3], ARGV[place + 1], ARGV[place + 2])
        redis.call('EXPIRE', KEYS[1] .. ':spent:' .. ARGV[place + 3], ARGV[1])
        redis.call('HINCRBYFLOAT', KEYS[1] .. ':total', ARGV[place + 1], ARGV[place + 2])
        fresh = fresh + 1
    end
end
return fresh
"""
Answer = TypeVar("Answer")


class RedisLedger:
    """Ledger under the keys `key:...` of one server; raises UserError when it does not answer."""

    def __init__(self, url: str, key: str, password: str | None = None) -> None:
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"  # without a password
        self._key = key
        try:
            self._redis: Any = redis.Redis.from_url(
                url, password=password, socket_timeout=TIMEOUT_SECONDS, decode_responses=True
            )
        except ValueError as error:
            raise UserError(str(error), field="budgets.redis_url", value=self.name) from None
        self._spend = self._redis.register_script(SPEND)
        self._call(self._redis.ping)

    def set(self, campaign: str, budget: Budget | None) -> None:
        """One command."""
        name = f"{self._key}:budgets"
        if budget is None:
            self._call(lambda: self._redis.hdel(name, campaign))
        else:
            self._call(lambda: self._redis.hset(name, campaign, budget.model_dump_json()))

    def spend(self, spendings: Sequence[Spending]) -> int:
        """One script: all or none."""
        if not spendings:
            return 0
        values = [value for one in spendings for value in (one.event_id, one.campaign, repr(one.money), one.day)]
        return int(self._call(lambda: self._spend(keys=[self._key], args=[KEPT_DAYS * 86_400, *values])))

    def reserve(self, replica: str, money: Mapping[str, float], until_ms: int) -> None:
        """One command."""
        body = json.dumps({"until_ms": until_ms, "money": dict(money)})
        self._call(lambda: self._redis.hset(f"{self._key}:reserved", replica, body))

    def accounts(self, day: str, now_ms: int) -> dict[str, Account]:
        """One round trip; what has run out is forgotten by another."""
        pipe = self._redis.pipeline(transaction=True)
        for name in ("budgets", f"spent:{day}", "total", "reserved"):
            pipe.hgetall(f"{self._key}:{name}")
        budgets, today, total, reserved = self._call(pipe.execute)
        held: dict[str, float] = {}
        gone: list[str] = []
        for replica, body in reserved.items():
            said = json.loads(body)
            if said["until_ms"] <= now_ms:
                gone += [replica] if said["until_ms"] < now_ms - HOUR_MS else []  # it may be telling anew just now
                continue
            for name, money in said["money"].items():
                held[name] = held.get(name, 0.0) + money
        if gone:
            self._call(lambda: self._redis.hdel(f"{self._key}:reserved", *gone))
        return {
            name: Account(
                Budget.model_validate_json(body),
                float(today.get(name, 0)),
                float(total.get(name, 0)),
                held.get(name, 0.0),
            )
            for name, body in budgets.items()
        }

    def saw(self, day: str, hour: int, requests: int) -> None:
        """One round trip."""
        pipe, name = self._redis.pipeline(transaction=True), f"{self._key}:traffic:{day}"
        pipe.hincrby(name, hour, requests)
        pipe.expire(name, KEPT_DAYS * 86_400)
        self._call(pipe.execute)

    def traffic(self, days: Sequence[str]) -> dict[str, dict[int, int]]:
        """One round trip."""
        pipe = self._redis.pipeline(transaction=False)
        for day in days:
            pipe.hgetall(f"{self._key}:traffic:{day}")
        answers = zip(days, self._call(pipe.execute), strict=True)
        return {day: {int(hour): int(requests) for hour, requests in found.items()} for day, found in answers if found}

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _call(self, action: Callable[[], Answer]) -> Answer:
        try:
            return action()
        except redis.RedisError as error:
            raise UserError(f"{self.name} does not answer: {error}", field="budgets.redis_url") from None
