"""Events for tests of the stores, and how they open one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adbeam.records import HOUR_MS, Event
from adbeam.serving.config import StoreConfig
from adbeam.serving.stores.store import HistoryStore

Open = Callable[..., HistoryStore]


def event(number: int, user: str = "u", timestamp: int | None = None, **changes: object) -> Event:
    values = {
        "event_id": f"e{number}", "request_id": "r", "user_id": user, "item_id": f"item{number}",
        "timestamp": number if timestamp is None else timestamp, "action": "conversion", "price": 2.5,
    }  # fmt: skip
    return Event.model_validate({**values, **changes})


def redis_settings(url: str, **more: object) -> StoreConfig:
    return StoreConfig.parse({"backend": "redis", "redis": {"urls": [url], **more}})


def ad_conversion(number: int, item: str, hour: int, **changes: Any) -> Event:
    return event(number, timestamp=hour * HOUR_MS + number, item_id=item, item_kind="ad", **changes)
