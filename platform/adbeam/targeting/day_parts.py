"""Day parts of a rule, such as "mon-fri 7-22": the hours of a week in which an ad may be shown.

Hours are counted from Monday 0:00 in the time zone of the rule, 168 a week.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_PARTS = 64
QUARTER_MS = 900_000
"""Hours of all time zones begin at full quarters of an hour."""
_LAST_MS = 253_402_200_000_000
"""The last day of the year 9999: no calendar goes on from there, and later moments count as that."""
_PART = re.compile(r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))? )?(?P<begin>\d{1,2})-(?P<end>\d{1,2})")


@lru_cache(maxsize=4096)
def hours_of(part: str) -> frozenset[int]:
    """The hours of the week of one day part; raises ValueError saying what is wrong with it."""
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError('a day part is written as "mon-fri 7-22", "sat 10-14" or "7-22"')
    begin, end = int(found["begin"]), int(found["end"])
    if not 0 <= begin < end <= 24:
        raise ValueError("hours go from 0 to 24, the later one last; over midnight are two parts: 22-24 and 0-6")
    return frozenset(24 * day + hour for day in _days(found["first"], found["last"]) for hour in range(begin, end))


def _days(first: str | None, last: str | None) -> range:
    if first is None:
        return range(7)
    for day in (first, last or first):
        if day not in DAYS:
            raise ValueError(f"days are {', '.join(DAYS)}, not {day}")
    begin, end = DAYS.index(first), DAYS.index(last or first)
    if begin > end:
        raise ValueError("days go from mon to sun, the later one last; over Sunday are two parts")
    return range(begin, end + 1)


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """A time zone; raises ValueError for an unknown one."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("no such time zone; take a name as UTC, Europe/Berlin or America/New_York") from None


@lru_cache(maxsize=4096)
def _hour_of_week(quarter_s: int, name: str) -> int:
    local = datetime.fromtimestamp(quarter_s, zone(name))
    return local.weekday() * 24 + local.hour


def hour_of_week(now_ms: int, name: str) -> int:
    """Which hour of its week a moment is in a time zone."""
    return _hour_of_week(min(now_ms, _LAST_MS) // QUARTER_MS * (QUARTER_MS // 1000), name)


def is_in(parts: Iterable[str], now_ms: int, name: str) -> bool:
    """Whether a moment is in one of the day parts."""
    hour = hour_of_week(now_ms, name)
    return any(hour in hours_of(part) for part in parts)
