"""A request on its way through a replica, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

from adbeam.beams.backlog import QueuedRequest
from adbeam.catalogue.blocked import Blocked
from adbeam.serving.schemas import AdRequest, HistoryEvent


@dataclass(frozen=True, slots=True)
class Query:
    """What the engine is asked."""

    user_id: str | None
    history: tuple[HistoryEvent, ...] | None
    scene: str
    count: int
    now_ms: int
    blocked: Blocked

    @classmethod
    def of(cls, request: AdRequest, scene: str, now_ms: int) -> Query:
        """The query of a validated request; `scene` and `now_ms` stand in where the request names none."""
        filters = request.filters
        return cls(
            user_id=request.user_id,
            history=None if request.history is None else tuple(request.history),
            scene=request.scene or scene,
            count=request.count,
            now_ms=now_ms if request.timestamp is None else request.timestamp,
            blocked=Blocked(
                frozenset(filters.blocked_item_ids),
                frozenset(filters.blocked_advertisers),
                frozenset(filters.blocked_categories),
                filters.exclude_seen,
            ),
        )

    def cache_key(self, model_version: str) -> Hashable:
        """Requests with this key may get the same answer for a while."""
        return (self.user_id, self.scene, self.count, self.blocked, model_version)

    @property
    def cacheable(self) -> bool:
        """Whether the answer depends on stored state only."""
        return self.user_id is not None and self.history is None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine found for one query: ads as plain mappings in falling order of score."""

    ads: list[dict[str, Any]]
    cold_start: bool
    expected_ecpm: float = 0.0


@dataclass(frozen=True, slots=True)
class Decoded:
    """An answer with how it was decoded."""

    answer: Answer
    model_version: str
    rung: int
    widths: tuple[int, ...]
    full_widths: tuple[int, ...]
    queue_ms: float
    decode_ms: float


Refusal = Literal["late", "queue_full"]
"""Why a query is not decoded."""


@dataclass(eq=False, slots=True)
class Waiting:
    """A query in the queue. `future` gets a Decoded, or why there will be none."""

    query: Query
    queued: QueuedRequest
    future: asyncio.Future[Decoded | Refusal]
