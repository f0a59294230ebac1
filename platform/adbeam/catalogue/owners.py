"""Whose an ad is and of what kind, and what a replica hears of ads that change hands."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from adbeam.records import CAMPAIGN


class Owner(NamedTuple):
    """Advertiser, campaign and category of an ad; None where nobody said."""

    advertiser: str | None = None
    campaign: str | None = None
    category: str | None = None

    @classmethod
    def of(cls, ad: dict[str, Any]) -> Owner:
        """Of an ad as the response carries it, which does not name the category."""
        return cls(ad.get("advertiser"), ad.get("campaign"))

    def named(self) -> dict[str, str]:
        """What the response names, where it is known."""
        return {name: value for name in ("advertiser", "campaign") if (value := getattr(self, name))}


class KnownOwners(Protocol):
    """Owners of ads by id, as they are now."""

    def owner(self, item_id: str, otherwise: Owner) -> Owner:
        """Whose an ad is; `otherwise` where nothing is known here."""


class HeardOwners:
    """KnownOwners of the ads that have changed, as the process that decodes tells of them."""

    def __init__(self) -> None:
        self._changed: dict[str, Owner] = {}

    def hear(self, item_id: str, owner: Owner) -> None:
        """An ad is of these now."""
        self._changed[item_id] = owner

    def owner(self, item_id: str, otherwise: Owner) -> Owner:
        """Whose an ad is; `otherwise` where nothing was heard."""
        return self._changed.get(item_id, otherwise)


def campaigns_of(table: pa.Table) -> list[str | None]:
    """The campaign of each row; a number, of a column that was declared as a feature, as its digits."""
    if CAMPAIGN not in table.column_names:
        return [None] * len(table)
    return [value or None for value in table.column(CAMPAIGN).cast(pa.string()).to_pylist()]
