"""The HTTP schemas of what a replica is told: AdRequest, events and changes of ads; answers are in answer_schemas.

The models are the reference (OpenAPI, clients, tests). A replica narrows AdRequest to its own limits and scenes with
`request_model`, so that every bound a client can hit is checked in one place and shown in the OpenAPI schema.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, create_model, field_validator
from pydantic_core import PydanticCustomError

from adbeam.catalogue.blocked import EVERYTHING, Allowed, Blocked
from adbeam.catalogue.updates import AdChange
from adbeam.identity.people import NOBODY_WORDS, known_user
from adbeam.records import MOST_MONEY, Event
from adbeam.serving.config import AdminConfig, DeadlineConfig, LimitsConfig
from adbeam.serving.engine.request import HistoryEvent, Identifier, Query
from adbeam.serving.http.context import (
    DESCRIPTION,
    USER_DESCRIPTION,
    RequestContext,
    UserId,
    UserProfile,
    context_model,
    profile_model,
    same,
    told_field,
)
from adbeam.serving.privacy import PRIVACY, PrivacySignals
from adbeam.serving.stores.profiles import of_source
from adbeam.targeting.features import Features
from adbeam.targeting.told import Context

_WIDTH = "beams of the last level to search with"
_ALONE = "Only these {} may be in the answer; absent: any."
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Filters(BaseModel):
    """Ads the answer must not hold, and those that it may hold alone: every list that is given must name an ad."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    blocked_item_ids: list[Identifier] = Field(default_factory=list)
    blocked_advertisers: list[Identifier] = Field(
        default_factory=list, description="In any case, a domain with those below it."
    )
    blocked_categories: list[Name] = Field(default_factory=list)
    allowed_item_ids: list[Identifier] | None = Field(None, min_length=1, description=_ALONE.format("ads"))
    allowed_campaigns: list[Name] | None = Field(None, min_length=1, description=_ALONE.format("ads of campaigns"))
    allowed_advertisers: list[Name] | None = Field(None, min_length=1, description=_ALONE.format("ads of advertisers"))
    exclude_seen: bool = Field(False, description="Leave out items of the user's history.")

    def allowed(self) -> Allowed:
        """What alone the answer may hold."""
        lists = (self.allowed_item_ids, self.allowed_campaigns, self.allowed_advertisers)
        if lists == (None, None, None):
            return EVERYTHING
        return Allowed(*(None if named is None else frozenset(named) for named in lists))


class AdRequest(BaseModel):
    """One slot to fill. Without user and history the answer is the cold-start answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    user_id: UserId | None = Field(
        None, description="Whose stored history is the context; nobody and long ids as in events."
    )
    history: list[HistoryEvent] | None = Field(None, description="Context given inline, in place of the stored one.")
    scene: str | None = Field(None, description="Where the ads appear; default: the bundle's first scene.")
    count: int = Field(10, ge=1, le=1000, description="Ads wanted; fewer when fewer match.")
    deadline_ms: float | None = Field(None, description="Time for the answer; the X-Deadline-Ms header wins over it.")
    filters: Filters = Filters()
    context: RequestContext = Field(RequestContext(), description=DESCRIPTION)
    user: UserProfile = Field(UserProfile(), description=USER_DESCRIPTION)
    privacy: PrivacySignals | None = Field(None, description=PRIVACY)
    request_id: Identifier | None = Field(None, description="Comes back in the answer; made up when absent.")
    timestamp: int | None = Field(None, ge=0, le=1 << 53, description="Moment asked about, ms UTC; default now.")
    value: float | None = Field(
        None,
        ge=0,
        le=MOST_MONEY,
        allow_inf_nan=False,
        description="Expected worth of the slot: kept wide longest, shed last.",
    )
    debug: bool = Field(
        False, description="Say which of the best ads were left out, and why: needs an admin key, and is not logged."
    )
    floor_ecpm: float | None = Field(
        None, ge=0, le=MOST_MONEY, allow_inf_nan=False, description="Least `expected_ecpm` of an ad of the answer."
    )
    beam_width_max: int | None = Field(None, ge=1, description=f"Most {_WIDTH}; at least the narrowest rung's are.")
    beam_width_min: int | None = Field(
        None, ge=1, description=f"Fewest {_WIDTH}, as long as deadlines and load allow: else the beam policy decides."
    )

    @field_validator("beam_width_min")
    @classmethod
    def _width_bounds_agree(cls, least: int | None, others: ValidationInfo) -> int | None:
        most = others.data.get("beam_width_max")
        if least is not None and most is not None and least > most:
            remedy = "lower it, or leave one of them out"
            raise PydanticCustomError("beam_width", f"Input should be at most beam_width_max, {most}: {remedy}")
        return least

    def of_nobody(self) -> AdRequest:
        """The request without all that it tells of its user."""
        nothing = {"user_id": None, "history": None, "user": type(self.user)(), "privacy": None}
        return self.model_copy(update=nothing)

    def query(
        self, scene: str, now_ms: int, nobody_words: frozenset[str] = NOBODY_WORDS, spent: frozenset[str] = frozenset()
    ) -> Query:
        """What the engine is asked; `scene` and `now_ms` stand in where the request names none. A user among
        `nobody_words` is nobody; `spent` are campaigns without money."""
        filters, user_id = self.filters, known_user(self.user_id, nobody_words)
        context, unread = self._told(user_id)
        return Query(
            user_id=user_id,
            history=None if self.history is None else tuple(self.history),
            scene=self.scene or scene,
            count=self.count,
            now_ms=now_ms if self.timestamp is None else self.timestamp,
            blocked=Blocked(
                frozenset(filters.blocked_item_ids),
                frozenset(filters.blocked_advertisers),
                frozenset(filters.blocked_categories),
                filters.exclude_seen,
            ),
            width_max=self.beam_width_max,
            width_min=self.beam_width_min,
            context=context,
            unread=unread,
            allowed=filters.allowed(),
            floor_ecpm=self.floor_ecpm or 0.0,
            spent=spent,
        )

    def _told(self, user_id: str | None) -> tuple[Context, tuple[str, ...]]:
        """What the request tells, and the features of its user that may be kept; nothing is kept of nobody."""
        context = self.context.told()
        if not self.user.names:
            return context, ()
        told = self.user.told()
        unread = () if user_id is None else self.user.without(told)
        return tuple(sorted(context + told)) if told else context, unread


class PostedEvent(Event):
    """An event as a client posts it: no value is coerced from another JSON type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user_id: UserId = Field(
        description="Blank, 0, null, a zero UUID and the like are nobody; more than 128 characters are hashed."
    )
    timestamp: int = Field(ge=0, le=1 << 53, description="Milliseconds since 1970, UTC; not in the future.")
    privacy: PrivacySignals | None = Field(None, description=PRIVACY)


class EventBatch(BaseModel):
    """Events of ad requests: impressions, clicks, conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    events: list[PostedEvent] = Field(min_length=1)


class AdChanges(BaseModel):
    """Ads to insert, update, pause, resume or remove: all of them in this order, or none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    changes: list[AdChange] = Field(min_length=1)


def request_model(
    limits: LimitsConfig, deadline: DeadlineConfig, scenes: tuple[str, ...], full_widths: tuple[int, ...] = (),
    features: Features | None = None,
) -> type[AdRequest]:  # fmt: skip
    """AdRequest with this replica's bounds, its scenes as the only values of `scene`, the last of `full_widths` as
    the most beams that a request may name, and `features` as what its context may tell."""
    bounded: dict[str, Any] = {
        name: (
            field.annotation,
            Field(default_factory=list, max_length=limits.filter_max, description=field.description),
        )
        for name, field in Filters.model_fields.items()
        if name.startswith("blocked_")
    }
    for name in ("allowed_item_ids", "allowed_campaigns", "allowed_advertisers"):
        field, most = Filters.model_fields[name], limits.filter_max
        bounded[name] = (field.annotation, Field(None, min_length=1, max_length=most, description=field.description))
    filters = create_model("Filters", __base__=Filters, **bounded)
    features = features or {}
    widest = full_widths[-1] if full_widths else None
    widths: dict[str, Any] = {
        name: (int | None, Field(None, ge=1, le=widest, description=AdRequest.model_fields[name].description))
        for name in ("beam_width_max", "beam_width_min")
    }
    return create_model(
        "AdRequest",
        __base__=AdRequest,
        count=(int, Field(min(10, limits.count_max), ge=1, le=limits.count_max, description="Ads wanted.")),
        history=(list[HistoryEvent] | None, Field(None, max_length=limits.history_max)),
        scene=(Literal[scenes] | None, Field(None, description="Where the ads appear.")),  # type: ignore[arg-type]
        deadline_ms=(float | None, Field(None, ge=deadline.min_ms, le=deadline.max_ms, allow_inf_nan=False)),
        filters=(filters, Field(default_factory=partial(same, filters()))),  # as a default it is copied each time
        context=told_field(context_model(of_source(features, "request")), DESCRIPTION),
        user=told_field(profile_model(of_source(features, "user")), USER_DESCRIPTION),
        **widths,
    )


def changes_model(admin: AdminConfig) -> type[AdChanges]:
    """AdChanges with this replica's bound."""
    return create_model(
        "AdChanges", __base__=AdChanges, changes=(list[AdChange], Field(min_length=1, max_length=admin.changes_max))
    )


def event_model(limits: LimitsConfig) -> type[EventBatch]:
    """EventBatch with this replica's bound."""
    return create_model(
        "EventBatch", __base__=EventBatch, events=(list[PostedEvent], Field(min_length=1, max_length=limits.events_max))
    )
