"""Pacing that follows traffic: which part of its day's money a campaign may have spent at a moment.

The ledger knows how many requests the hours of the last days brought; a day's money is shared out as they were. Within
an hour time decides. Of a campaign that lies behind (set in the middle of a day, or paused) an hour takes no more than
CATCH_UP times its share, so that the money of a morning is not thrown at one hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from adbeam.budgets.ledger import Account, share_of_day
from adbeam.targeting.day_parts import zone

HOURS = 24
CATCH_UP = 1.9
"""Below 2: what is on its way when an hour is full comes on top."""
Traffic = Mapping[str, Mapping[int, int]]
"""{day: {hour: requests}}."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A moment of a day."""

    day: str
    hour: int
    behind: float
    """Share of the day's money that may have been spent."""
    of_hour: float
    """Share of the day's money that the whole of this hour has."""


def shares(traffic: Traffic) -> tuple[float, ...] | None:
    """The shares of the 24 hours of a day, each day for the same; None where no day but the first is known: it may
    have begun in its middle."""
    whole = [hours for _, hours in sorted(traffic.items())[1:] if sum(hours.values()) > 0]
    if not whole:
        return None
    sums = [sum(hours.get(hour, 0) / sum(hours.values()) for hours in whole) for hour in range(HOURS)]
    return tuple(one / sum(sums) for one in sums)


def pace_at(at_ms: int, timezone: str, hours: Sequence[float] | None) -> Pace:
    """Where in its day a moment is; without `hours` by time alone."""
    here = datetime.fromtimestamp(at_ms / 1000, zone(timezone))
    day, time_alone = here.date().isoformat(), share_of_day(at_ms, timezone)
    if hours is None:
        return Pace(day, here.hour, time_alone, 1 / HOURS)
    part = (here.minute * 60 + here.second + here.microsecond / 1e6) / 3600
    return Pace(day, here.hour, sum(hours[: here.hour]) + hours[here.hour] * part, hours[here.hour])


def last_days(day: str, count: int) -> list[str]:
    """The `count` days before a day, oldest first, and the one before them, which is only looked for."""
    first = date.fromisoformat(day)
    return [(first - timedelta(days=back)).isoformat() for back in range(count + 1, 0, -1)]


class HourBounds:
    """What campaigns had spent when an hour began; for one thread."""

    def __init__(self) -> None:
        self._hour: tuple[str, int] = ("", -1)
        self._before: dict[str, float] = {}

    def left(self, name: str, account: Account, pace: Pace) -> float:
        """Money that a campaign may still spend now."""
        if (pace.day, pace.hour) != self._hour:
            self._hour, self._before = (pace.day, pace.hour), {}
        left = account.left(pace.behind)
        if account.budget.pacing != "even" or account.budget.day is None:
            return left
        spent = account.today - self._before.setdefault(name, account.today)
        return min(left, CATCH_UP * pace.of_hour * account.budget.day - spent - account.reserved)
