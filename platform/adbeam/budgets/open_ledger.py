"""The ledger that a configuration names: a SQLite file, or Redis."""

from __future__ import annotations

import os

from adbeam.budgets.config import BudgetsConfig
from adbeam.budgets.ledger import Ledger
from adbeam.budgets.sqlite import SqliteLedger


def open_ledger(config: BudgetsConfig) -> Ledger | None:
    """The ledger; None where none is named. Raises UserError when it cannot be used."""
    if config.redis_url is not None:
        from adbeam.budgets.redis import RedisLedger

        return RedisLedger(config.redis_url, config.redis_key, os.environ.get(config.redis_password_env) or None)
    return SqliteLedger(config.path) if config.path is not None else None
