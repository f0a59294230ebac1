"""The update log that a configuration names: a SQLite file, a stream in Redis, or none."""

from __future__ import annotations

import os

from adbeam.catalogue.config import UpdatesConfig
from adbeam.catalogue.updates import SqliteUpdateLog, UpdateLog


def open_log(config: UpdatesConfig) -> UpdateLog | None:
    """The log that `config` names; None when it names none. Raises UserError when it cannot be used."""
    if config.redis_url is not None:
        from adbeam.catalogue.updates_redis import RedisUpdateLog

        return RedisUpdateLog(config.redis_url, config.redis_key, os.environ.get(config.redis_password_env) or None)
    return SqliteUpdateLog(config.path) if config.path is not None else None
