"""Numbers as ids: their shortest exact text."""

from __future__ import annotations

EXACT_BELOW = 1 << 53
"""From here on a float is the same as its neighbours, so that several ids may have become one."""


def id_of_number(value: object) -> str | None:
    """The id that a number of JSON stands for: `17` for 17 and 17.0.

    None for what is no id: a fraction, a float of 2^53 or more, a boolean, anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return str(value)
    return str(int(value)) if abs(value) < EXACT_BELOW and value.is_integer() else None
