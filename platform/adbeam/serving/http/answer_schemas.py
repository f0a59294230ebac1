"""The HTTP schemas of what a replica says: answers, receipts and problems, its status, the path of a semantic ID."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from adbeam.serving.engine.prices import MoneyUnit
from adbeam.serving.processor.processor_shares import ProcessorShares


class RecentAnswers(BaseModel):
    """How the answers of the last seconds came about."""

    window_seconds: float
    answers: int
    by_source: dict[str, int] = Field(description="Answers by source: model, cache, fallback.")
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class TriePrefix(BaseModel):
    """One prefix of a semantic id."""

    prefix: list[int]
    branches: int = Field(description="Codes that may follow in the live catalogue; 0 after the last level.")
    leaves: int = Field(description="Live semantic ids below the prefix; live ads of it after the last level.")


class TriePath(BaseModel):
    """How the live catalogue narrows along a semantic id; fewer steps than levels + 1 when it is not live."""

    model_version: str
    sid: list[int]
    steps: list[TriePrefix]


class BidTerms(BaseModel):
    """What bounds the bids of a replica."""

    currency: str
    price_min_cpm: float = Field(description="Ads below it are not bid.")
    price_max_cpm: float | None = Field(description="Bids above it are bid at it; null: no ceiling.")


class MoneyTerms(BaseModel):
    """Where the money of a thousand impressions comes from (docs/money.md)."""

    unit: MoneyUnit = Field(description="`target`: unknown; `expected_ecpm` is money of a target then.")
    bidding: bool = Field(description="Whether bid requests get bids.")


class PrecisionTerms(BaseModel):
    """What a replica decodes in."""

    asked: str = Field(description="`engine.precision`.")
    chosen: str = Field(description="float32, bfloat16 or int8.")
    reason: str = Field(description="Why, in words.")


class ReplicaStatus(BaseModel):
    """One replica's state; behind several replicas each answer is of another one."""

    model_version: str
    model_age_seconds: float
    scenes: list[str]
    policy: str
    rung: int
    widths: list[int]
    full_widths: list[int]
    full_width_capacity_per_second: float = Field(description="Requests a second this replica sustains at full width.")
    arrivals_per_second: float
    demand_full_width: float = Field(description="Replicas that the arrivals would keep busy at full width.")
    utilisation: float
    queue_depth: int
    in_flight: int
    updates_watermark: int | None = Field(None, description="Newest ad update in force here; null without a log.")
    replica: str | None = Field(None, description="Which replica answers.")
    replicas: dict[str, int] | None = Field(None, description="Replicas by Serve's state; null until Serve has told.")
    recent: RecentAnswers
    ladder: list[list[int]] = Field(description="Beam widths of every rung, the widest first.")
    policy_settings: dict[str, Any] = Field(description="Every setting of the beam policy in force.")
    openrtb: BidTerms = Field(description="The bounds of bids in force.")
    money: MoneyTerms = Field(description="What `expected_ecpm` is made of, and whether it may be bid.")
    precision: PrecisionTerms = Field(description="What the model's products are computed in.")
    processor: ProcessorShares = Field(description="What this machine's other work costs the replica.")


class Ad(BaseModel):
    """One ad of an answer."""

    item_id: str
    title: str
    price: float | None = Field(description="Typical value of a conversion.")
    advertiser: str | None = Field(None, description="Whose it is; absent where nobody said.")
    campaign: str | None = Field(None, description="Of which campaign it is; absent where nobody said.")
    sid: list[int] = Field(description="Semantic id, one code a level; empty for a popular ad that has none.")
    score: float = Field(description="What the answer is ordered by, falling.")
    probability: float | None = Field(description="Probability of the semantic id under the model; null in a fallback.")
    expected_ecpm: float | None = Field(
        description="Expected money of a thousand impressions, CPM, where `money.unit` of /v1/status is not `target` "
        "(docs/money.md); null for a popular ad of which nobody said."
    )


class Served(BaseModel):
    """How the answer came about."""

    model_version: str
    source: Literal["model", "cache", "fallback"]
    degraded: bool = Field(description="Whether the answer is a cached or popular one because of the deadline.")
    cold_start: bool = Field(description="Whether nothing was known about the user.")
    rung: int | None = Field(description="Rung of the beam ladder, 0 the widest; null when nothing was decoded.")
    widths: list[int] | None = Field(description="Beam widths of the decode, one a level.")
    full_widths: list[int] = Field(description="Beam widths at full width.")
    queue_ms: float
    decode_ms: float


class LeftOut(BaseModel):
    """One of the best ads that is not in the answer."""

    item_id: str
    score: float
    rules: list[str] = Field(description="What kept it out: names of filters, caps and rules of the list, `targeting`.")
    targeting: dict[str, Any] | None = Field(None, description="Its targeting rules; null for everybody.")


class Passed(BaseModel):
    """An ad of the answer."""

    item_id: str
    rules: list[str] = Field(description="The rules that it was held against.")
    targeting: dict[str, Any] | None = Field(None, description="Its targeting rules; null for everybody.")


class ToldFeature(BaseModel):
    """One declared feature of the request or its user."""

    feature: str
    value: str | float | list[str] | None = Field(description="null: missing.")
    is_unread: bool = Field(description="Whether it could not be read of the user.")
    buckets: list[str] | None = Field(description="What the model hears of it; null: the model is not told it.")


class Debug(BaseModel):
    """What a search without rules finds beside the ads of the answer, and what is known of the request."""

    source: Literal["model", "fallback"] = Field(description="fallback: popular ads, that search was late.")
    left_out: list[LeftOut]
    passed: list[Passed] = Field(description="The ads of the answer.")
    closed: dict[str, int] = Field(description="Rows of the catalogue that each rule closes for this request.")
    told: list[ToldFeature] = Field(description="The declared features.")


class AdResponse(BaseModel):
    """Ads in falling order of score."""

    request_id: str
    ads: list[Ad]
    served: Served
    debug: Debug | None = Field(None, description="Where the request asked for it.")


class EventReceipt(BaseModel):
    """What became of posted events."""

    accepted: int
    duplicates: int
    nobody: int = Field(0, description="Events of nobody, which are not kept; absent when there are none.")
    forbidden: int = Field(
        0, description="Events of people whose signals forbid to keep them; absent when there are none."
    )


class UserReceipt(BaseModel):
    """What became of posted profiles."""

    stored: int
    removed: int = Field(description="Users whose profile was empty: none is kept of them now.")
    nobody: int = Field(description="Profiles of nobody, which are not kept.")
    forbidden: int = Field(
        0, description="Profiles of people whose signals forbid to keep them; absent when there are none."
    )


class ForgottenUser(BaseModel):
    """What was kept of a user and is no longer; asking again is safe."""

    profile: bool
    history: bool


class ChangedAd(BaseModel):
    """One change that was made."""

    item_id: str
    operation: str
    sid: list[int] | None = Field(description="Semantic id of an inserted ad.")


class AdReceipt(BaseModel):
    """What became of changes to ads: they are durable, and every replica has them within its poll interval."""

    last: int = Field(description="Number of the last one in the update log; see `updates_watermark` of /v1/status.")
    ads: list[ChangedAd]


class FieldProblem(BaseModel):
    """One field that is wrong."""

    field: str
    message: str
    value: Any = None


class Problem(BaseModel):
    """An error answer (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []
