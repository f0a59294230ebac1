"""A request on its way through a replica, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from adbeam.beams.backlog import QueuedRequest
from adbeam.catalogue.blocked import EVERYTHING, Allowed, Blocked
from adbeam.catalogue.creatives.creative import Demands
from adbeam.declared.encoder import ToldCodes
from adbeam.records import MOST_MONEY, Action, ItemKind
from adbeam.targeting.told import Context, Told

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class HistoryEvent(BaseModel):
    """One event of an inline history."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    item_id: Identifier
    timestamp: int = Field(ge=0, le=1 << 53, description="Milliseconds since 1970, UTC.")
    action: Action = Action.CONVERSION
    item_kind: ItemKind = ItemKind.AD
    value: float = Field(0.0, ge=0, le=MOST_MONEY, allow_inf_nan=False, description="What the event was worth.")


@dataclass(frozen=True, slots=True)
class Query:
    """What the engine is asked."""

    user_id: str | None
    history: tuple[HistoryEvent, ...] | None
    scene: str
    count: int
    now_ms: int
    blocked: Blocked
    width_max: int | None = None
    width_min: int | None = None
    """Most and fewest beams of the last level that the caller wants."""
    context: Context | None = ()
    """What the request tells, and what is kept of its user once that is read; None where targeting rules do not
    count, as for a probe."""
    unread: tuple[str, ...] = ()
    """Features that may be kept of the user and that the request does not tell; none once they are read."""
    allowed: Allowed = EVERYTHING
    floor_ecpm: float = 0.0
    """Least expected money of a thousand impressions; 0 asks for no price."""
    spent: frozenset[str] = frozenset()
    """Campaigns whose budget is spent."""
    is_free: bool = False
    """Whether rules of lists and caps do not count: what would be shown without them."""
    demands: Demands | None = None
    """What a bid request demands of ads, where columns tell their creatives."""

    def cache_key(self, model_version: str) -> Hashable:
        """Requests with this key may get the same answer for a while."""
        return (self.user_id, self.scene, self.count, self.blocked, self.width_max, self.width_min, model_version,
                self.context, self.allowed, self.floor_ecpm, self.demands)  # fmt: skip

    @property
    def told(self) -> Told | None:
        """What targeting rules are held against."""
        return None if self.context is None else Told(self.context, self.scene, self.now_ms, self.unread)

    def knowing(self, profile: Context | None) -> Query:
        """The query with what is kept of its user; what the request tells wins. None: it could not be read."""
        if profile is None or not self.unread:
            return self
        missing = [(name, value) for name, value in profile if name in self.unread]
        return replace(self, context=tuple(sorted((*(self.context or ()), *missing))), unread=())

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
    rules: dict[str, str] = field(default_factory=dict)
    """Targeting rules, as text, of those ads that have any."""
    profile: Context | None = None
    """What is kept of the user; None where it was not asked for, or could not be read."""
    categories: dict[str, str | None] = field(default_factory=dict)
    """Categories of the ads, where a rule of the list asks for them."""
    told: ToldCodes | None = None
    """What the model was told, where it is told anything."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An answer with how it was decoded; of `decode_ms` its batch had no processor for `off_cpu_ms`."""

    answer: Answer
    model_version: str
    rung: int
    widths: tuple[int, ...]
    full_widths: tuple[int, ...]
    queue_ms: float
    decode_ms: float
    off_cpu_ms: float = 0.0


Refusal = Literal["late", "queue_full"]
"""Why a query is not decoded."""


@dataclass(eq=False, slots=True)
class Waiting:
    """A query in the queue. `future` gets a Decoded, or why there will be none."""

    query: Query
    queued: QueuedRequest
    future: asyncio.Future[Decoded | Refusal]
