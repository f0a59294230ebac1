"""Values of bid requests as exchanges send them: numbers as text, one value in place of a list, nulls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from adbeam.identity.numbers import id_of_number

LISTED = 1000
"""Entries of one list that are read."""
TEXT_LENGTH = 256
MOST = 1 << 31
Unread = Callable[[str], None]
"""Told the name of each field that cannot be read."""


def part(value: Any, name: str, unread: Unread) -> Mapping[str, Any] | None:
    """An object; None where there is none, or none that can be read."""
    if isinstance(value, dict):
        return value
    if value is not None:
        unread(name)
    return None


def finite(value: Any) -> float:
    """A number, or text of one; raises TypeError, ValueError or OverflowError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(value)
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(value)
    return found


def number(value: Any, name: str, unread: Unread) -> float | None:
    """A number of at least 0; None where there is none, or none that can be read."""
    if value is None:
        return None
    try:
        found = finite(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not 0 <= found < MOST:
        unread(name)
        return None
    return found


def whole(value: Any, name: str, unread: Unread) -> int | None:
    """The same, rounded down."""
    found = number(value, name, unread)
    return None if found is None else int(found)


def texts(value: Any, name: str, unread: Unread) -> list[str]:
    """The entries of a list that can be read; one value in its place is a list of one."""
    if value is None:
        return []
    entries = value if isinstance(value, list) else [value]
    found = []
    for entry in entries[:LISTED]:
        text = entry.strip() if isinstance(entry, str) else id_of_number(entry)
        if text and len(text) <= TEXT_LENGTH:
            found.append(text)
        else:
            unread(name)
    if len(entries) > LISTED:
        unread(name)
    return found


def codes(value: Any, name: str, unread: Unread) -> frozenset[int]:
    """The entries of a list of AdCOM's numbers that can be read."""
    entries = [] if value is None else value if isinstance(value, list) else [value]
    found = [whole(entry, name, unread) for entry in entries[:LISTED] if entry is not None]
    return frozenset(code for code in found if code is not None)
