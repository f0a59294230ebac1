"""Requests and their feedback for tests of the join."""

from __future__ import annotations

from typing import Any

from adbeam.records import HOUR_MS

WEEK_MS = 168 * HOUR_MS


def request(name: str, moment: int, items: list[str], user: str = "u") -> dict[str, Any]:
    return {"request_id": name, "user_id": user, "timestamp": moment, "scene": "feed", "model_version": "v",
            "source": "model", "item_ids": items, "sids": [[1] for _ in items],
            "log_probabilities": [-1.0 for _ in items], "expected_ecpm": [1.0 for _ in items]}  # fmt: skip


def event(name: str, of: str, item: str, action: str, moment: int, user: str = "u", price: float | None = None) -> Any:
    return {"event_id": name, "request_id": of, "user_id": user, "timestamp": moment, "item_id": item,
            "item_kind": "ad", "scene": "feed", "action": action, "bid": 2.0, "ecpm": None, "price": price,
            "position": 0}  # fmt: skip
