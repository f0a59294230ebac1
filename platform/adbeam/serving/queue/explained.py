"""A debug answer: beside the ads, which of the best ads were left out, and by which rules.

The best ads are those of the same search without any rule. It is decoded as a request of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

from adbeam.catalogue.blocked import EVERYTHING, Blocked
from adbeam.list_rules.config import ListRulesConfig
from adbeam.list_rules.listing import Listing, kinds_of
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Query
from adbeam.serving.queue.deadlines import AwaitedDecoding

BEST = 50
"""Ads that are looked at, at least."""
Ad = dict[str, Any]


async def left_out(
    query: Query, ads: Sequence[Ad], model: LoadedModel, awaited: AwaitedDecoding,
    list_rules: ListRulesConfig, deadline_ms: float,
) -> dict[str, Any]:  # fmt: skip
    """`debug` of the answer `ads` to a query: the ads that would be among its best, and the rules that kept them out;
    popular ones where they cannot be decoded in time."""
    most = list_rules.most
    free = replace(
        query, blocked=Blocked(), allowed=EVERYTHING, floor_ecpm=0.0, context=None, is_free=True,
        count=max(BEST, query.count),
    )  # fmt: skip
    outcome = await awaited.decoded(free, None, deadline_ms, monotonic())
    if isinstance(outcome, str):
        best, categories = model.popular(Blocked(), free.count, query.scene), dict[str, str | None]()
    else:
        best, categories = outcome.answer.ads, outcome.answer.categories
    shown = {ad["item_id"] for ad in ads}
    missing = [ad for ad in best if ad["item_id"] not in shown]
    rules = [[] for _ in missing] if model.why is None else await _asked(model, query, missing)
    full = Listing(most, len(ads))
    for ad in ads:
        full.takes(kinds_of(ad, categories.get(ad["item_id"]), most))
    found = []
    for ad, names in zip(missing, rules, strict=True):
        names = [*names, *_of_list(ad, query, full, categories.get(ad["item_id"]), most)]
        if names:
            found.append({"item_id": ad["item_id"], "score": ad["score"], "rules": names})
    return {"source": "fallback" if isinstance(outcome, str) else "model", "left_out": found}


async def _asked(model: LoadedModel, query: Query, ads: Sequence[Ad]) -> list[list[str]]:
    assert model.why is not None
    return await asyncio.get_running_loop().run_in_executor(None, model.why, query, [ad["item_id"] for ad in ads])


def _of_list(ad: Ad, query: Query, full: Listing, category: str | None, most: Mapping[str, int]) -> list[str]:
    """The rules that look at more than the ad itself."""
    names = []
    if query.floor_ecpm > 0 and (ad["expected_ecpm"] or 0.0) < query.floor_ecpm:
        names.append("floor_ecpm")
    for place, (rule, kind) in enumerate(zip(most, kinds_of(ad, category, most), strict=True)):
        if kind is not None and kind in full.full(place):
            names.append(f"most_per_{rule}")
    return names
