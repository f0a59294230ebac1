"""Connecting to the Redis servers of a configuration: what cannot be used is refused, what loses data is warned of."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from adbeam.errors import UserError
from adbeam.serving.config import RedisStoreConfig

logger = logging.getLogger(__name__)


def connect(url: str, password: str | None, timeout_ms: float) -> Any:
    """A client that gives up after `timeout_ms`; raises UserError for an address that is none."""
    parts = urlsplit(url)
    if parts.password:
        remedy = "set the variable of store.redis.password_env"
        raise UserError("a password does not belong into YAML", field="store.redis.urls", value="...", remedy=remedy)
    seconds = timeout_ms / 1000
    try:
        return redis.Redis.from_url(
            url, password=password, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 1)
        )
    except ValueError as error:
        raise UserError(str(error), field="store.redis.urls", value=url, remedy="redis://host:6379/0") from None


def check(url: str, client: Any, config: RedisStoreConfig) -> None:
    """Refuse a server that cannot be reached; warn of settings that lose histories."""
    try:
        client.ping()
    except redis.AuthenticationError as error:
        remedy = f"set {config.password_env} to the server's password"
        raise UserError(f"the server refused us: {error}", field="store.redis.urls", value=url, remedy=remedy) from None
    except redis.RedisError as error:
        remedy = "start Redis there, or use the file of one machine with store.backend: sqlite"
        raise UserError(f"no Redis answers: {error}", field="store.redis.urls", value=url, remedy=remedy) from None
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.RedisError:  # managed servers do not tell
        return
    if policy != "noeviction":
        logger.warning("%s evicts histories when its memory is full (maxmemory-policy %s)", url, policy)
