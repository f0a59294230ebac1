"""A service behind the HTTP border that answers with what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.http.context import UserBatch, batch_model
from adbeam.serving.http.openrtb import BidRequest, bid_model
from adbeam.serving.http.schemas import AdChanges, AdRequest, EventBatch, changes_model, event_model, request_model
from adbeam.serving.monitoring.metrics import Metrics
from adbeam.serving.stores.profiles import of_source

EVENT = {"event_id": "e", "request_id": "r", "user_id": "u", "timestamp": 1, "item_id": "i", "action": "click"}
"""A valid event of POST /v1/events."""


class EchoService:
    """Answers with what it was asked."""

    def __init__(self, **args: Any) -> None:
        self.config = ServingConfig.parse(args)
        self.request_type = request_model(self.config.limits, self.config.deadline, ("display", "mailer"))
        self.event_type = event_model(self.config.limits)
        self.bid_type = bid_model(self.config.limits)
        self.changes_type = changes_model(self.config.admin)
        self.users_type = batch_model(of_source(self.config.features, "user"), self.config.limits.users_max)
        self.default_deadline_ms = 123.0
        self.metrics: Recorder = Metrics()
        self.fault: str | None = None
        self.responses: list[tuple[str, int]] = []

    async def ads(self, request: AdRequest, deadline_ms: float, arrived_s: float) -> bytes | None:
        if request.user_id == "breaks":
            raise RuntimeError("secret detail")
        asked = request.model_dump(mode="json")
        return None if request.user_id == "nobody" else to_json({**asked, "granted_ms": deadline_ms})

    async def bid(self, request: BidRequest, deadline_ms: float, arrived_s: float) -> bytes | None:
        return None if request.imp[0].id == "none" else to_json({"id": request.id, "granted_ms": deadline_ms})

    async def events(self, batch: EventBatch) -> bytes:
        return to_json({"accepted": len(batch.events), "duplicates": 0})

    async def users(self, batch: UserBatch) -> bytes:
        return to_json({"stored": len(batch.users), "removed": 0, "nobody": 0})

    async def forget_user(self, user_id: str) -> bytes:
        return to_json({"profile": user_id == "u", "history": False})

    async def change_ads(self, request: AdChanges) -> bytes:
        return to_json({"last": len(request.changes), "ads": []})

    async def path(self, sid: Sequence[int]) -> bytes:
        return to_json({"sid": list(sid), "steps": []})

    def health(self) -> str | None:
        return self.fault

    def readiness(self) -> str | None:
        return "still starting"

    def status(self) -> bytes:
        return b'{"policy":"deadline"}'

    def count_response(self, route: str, status: int) -> None:
        self.responses.append((route, status))
