"""What a request tells of itself, as rules are held against it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

Value = str | float | tuple[str, ...]
Context = tuple[tuple[str, Value], ...]
"""Features by name, in the order of names; what is missing is left out."""


@dataclass(frozen=True)
class Told:
    """A request: its features, where the ads appear, and the moment (ms UTC)."""

    context: Context
    scene: str
    now_ms: int
    unread: tuple[str, ...] = ()
    """Features of the user that were not read. No condition on them holds: not even one for what is `missing`, for
    nobody knows that it is."""

    @cached_property
    def features(self) -> dict[str, Value]:
        """The features by name."""
        return dict(self.context)


def words(value: Value | None) -> tuple[str, ...]:
    """A value as categories: none where it is missing."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (str(value),)
