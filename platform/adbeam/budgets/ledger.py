"""The ledger of campaign budgets: what every store of it does, and what follows from its numbers.

Money is in the currency of the log. A day is named by its date in the declared time zone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal, NamedTuple, Protocol, Self

from pydantic import Field, model_validator

from adbeam.records import MOST_MONEY
from adbeam.settings import Section
from adbeam.targeting.day_parts import zone

KEPT_DAYS = 40
"""Sums of days, and ids of events, that are kept at least."""


class Budget(Section):
    """What one campaign may spend."""

    day: float | None = Field(None, gt=0, le=MOST_MONEY, allow_inf_nan=False, description="Money a day; null: any.")
    total: float | None = Field(None, gt=0, le=MOST_MONEY, allow_inf_nan=False, description="Money in all; null: any.")
    pacing: Literal["asap", "even"] = Field(
        "asap", description="even: at no moment more than the share of the day's traffic that has come."
    )

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.day is None and self.total is None:
            raise ValueError("a budget needs day, total, or both")
        if self.pacing == "even" and self.day is None:
            raise ValueError("pacing even shares out the money of a day: give day")
        return self


class Spending(NamedTuple):
    """Money that one event cost a campaign."""

    event_id: str
    campaign: str
    money: float
    day: str


@dataclass(frozen=True, slots=True)
class Account:
    """A campaign with a budget: what it has spent today and in all, and what is held back for impressions to come."""

    budget: Budget
    today: float = 0.0
    total: float = 0.0
    reserved: float = 0.0

    def left(self, share_of_day: float) -> float:
        """Money that may still be spent now; 0 or less: the campaign is paused."""
        bounds = [] if self.budget.total is None else [self.budget.total - self.total]
        if self.budget.day is not None:
            now = self.budget.day * (share_of_day if self.budget.pacing == "even" else 1.0)
            bounds.append(now - self.today)
        return min(bounds) - self.reserved


class Ledger(Protocol):
    """Budgets and what was spent of them; safe to call from several threads and processes."""

    def set(self, campaign: str, budget: Budget | None) -> None:
        """Give a campaign a budget, or none; what it has spent stays known."""

    def spend(self, spendings: Sequence[Spending]) -> int:
        """Count events, each id once; returns how many were new."""

    def reserve(self, replica: str, money: Mapping[str, float], until_ms: int) -> None:
        """What a replica holds back by campaign, in place of what it said before; void after `until_ms`."""

    def accounts(self, day: str, now_ms: int) -> dict[str, Account]:
        """Every campaign with a budget."""

    def saw(self, day: str, hour: int, requests: int) -> None:
        """Add requests that were answered in an hour of a day, 0 to 23."""

    def traffic(self, days: Sequence[str]) -> dict[str, dict[int, int]]:
        """{day: {hour: requests}} of those days that had any."""

    def close(self) -> None:
        """Release files and connections."""


def day_of(at_ms: int, timezone: str) -> str:
    """The date of a moment, as 2026-05-01."""
    return datetime.fromtimestamp(at_ms / 1000, zone(timezone)).date().isoformat()


def share_of_day(at_ms: int, timezone: str) -> float:
    """Which part of its day a moment has behind it, 0 to 1, also where a day has 23 or 25 hours."""
    here = zone(timezone)
    date = datetime.fromtimestamp(at_ms / 1000, here).date()
    first, last = (datetime.combine(day, time(), here).timestamp() for day in (date, date + timedelta(days=1)))
    return (at_ms / 1000 - first) / (last - first)
