"""Why ads are left out of the answer to a query, by the rules of the query and of the ads, one ad at a time.

For people who ask: an answer never waits for it. Rules of the list and a floor depend on the other ads and on prices:
they are held against an answer in adbeam.serving.queue.explained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from adbeam.catalogue.ads import AdCatalogue
from adbeam.catalogue.blocked import Allowed
from adbeam.list_rules.caps import Worn
from adbeam.serving.engine.request import Query
from adbeam.serving.stores.store import UserHistory
from adbeam.targeting.heard import is_for


@dataclass(frozen=True, slots=True)
class Why:
    """What rules make of a query."""

    refused: list[list[str]]
    """The rules that keep each ad that was asked for out; none for one that may be shown."""
    targeting: list[str | None]
    """Targeting rules of each of these ads, as text."""
    closed: dict[str, int]
    """Rows of the catalogue that each rule closes."""
    told: list[dict[str, Any]]
    """What the declared features are, and what the model hears of them (declared.buckets.told_in_words)."""


def reasons(
    query: Query, history: UserHistory, worn: Worn, catalogue: AdCatalogue, item_ids: Sequence[str]
) -> list[list[str]]:
    """The names of the rules that keep each ad from a query; none for an ad that may be shown."""
    return [list(_of_ad(query, history, worn, catalogue, item_id)) for item_id in item_ids]


def _of_ad(query: Query, history: UserHistory, worn: Worn, catalogue: AdCatalogue, item_id: str) -> Iterator[str]:
    owner, creative, blocked = catalogue.owner(item_id), catalogue.creative(item_id), query.blocked
    if item_id in blocked.item_ids:
        yield "blocked_item_ids"
    yield from blocked.refused((owner.advertiser, *creative.domains), (owner.category, *creative.categories))
    if blocked.seen and item_id in history.item_ids:
        yield "exclude_seen"
    lists = query.allowed
    for alone in (Allowed(lists.item_ids), Allowed(None, lists.campaigns), Allowed(None, None, lists.advertisers)):
        if (refused := alone.refuses(item_id, owner, creative.domains)) is not None:
            yield refused
    if not is_for(catalogue.rules(item_id), query.told):
        yield "targeting"
    if (cap := worn.refuses(item_id, owner)) is not None:
        yield cap
