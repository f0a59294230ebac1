"""The rules of single ads as a replica knows them, for answers that are not decoded now: cached and popular ads."""

from __future__ import annotations

from typing import Protocol

from adbeam.targeting.rules import stored_rules
from adbeam.targeting.told import Told


class KnownRules(Protocol):
    """Rules of ads by id, as they are now."""

    def rules(self, item_id: str, otherwise: str | None) -> str | None:
        """The rules of an ad as text, None where it is for everybody; `otherwise` where nothing is known here."""


class HeardRules:
    """KnownRules of the ads that have changed, as the process that decodes tells of them."""

    def __init__(self) -> None:
        self._changed: dict[str, str | None] = {}

    def hear(self, item_id: str, text: str | None) -> None:
        """An ad has these rules now."""
        self._changed[item_id] = text

    def rules(self, item_id: str, otherwise: str | None) -> str | None:
        """The rules of an ad as text; `otherwise` where nothing was heard."""
        return self._changed.get(item_id, otherwise)


def is_for(text: str | None, told: Told | None) -> bool:
    """Whether an ad of these rules is for a request; rules do not count where nobody asks (`told` is None)."""
    return text is None or told is None or stored_rules(text).hold(told)
