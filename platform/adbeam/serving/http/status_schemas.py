"""The HTTP schemas of what a replica says of itself: its status, and how its catalogue narrows along a semantic ID."""

from __future__ import annotations

from typing import Any

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
    processor: ProcessorShares = Field(description="What this machine's other work costs the replica.")
