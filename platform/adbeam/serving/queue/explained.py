"""A debug answer: beside the ads, why each is in it and others were left out, and what the model was told.

The best ads are those of the same search without any rule. It is decoded as a request of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from time import monotonic
from typing import Any

from adbeam.catalogue.blocked import EVERYTHING, Blocked
from adbeam.list_rules.listing import Listing, kinds_of
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.list_rules.left_out import Why
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Query
from adbeam.serving.queue.deadlines import AwaitedDecoding

BEST = 50
"""Ads that are looked at, at least."""
Ad = dict[str, Any]


async def explained(
    query: Query, ads: Sequence[Ad], model: LoadedModel, awaited: AwaitedDecoding,
    config: ServingConfig, deadline_ms: float,
) -> dict[str, Any]:  # fmt: skip
    """`debug` of the answer `ads` to a query: the ads that would be among its best and the rules that kept them out,
    the rules that its own ads have passed, how many ads each rule closes, and what the model was told; popular ads
    where the best cannot be decoded in time."""
    most = config.list_rules.most
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
    why = await _asked(model, query, [*missing, *ads])
    full = Listing(most, len(ads))
    for ad in ads:
        full.takes(kinds_of(ad, categories.get(ad["item_id"]), most))
    found = []
    for ad, names, rules in zip(missing, why.refused, why.targeting, strict=False):
        names = [*names, *_of_list(ad, query, full, categories.get(ad["item_id"]), most)]
        if names:
            found.append({"item_id": ad["item_id"], "score": ad["score"], "rules": names, "targeting": _read(rules)})
    passed = [
        {"item_id": ad["item_id"], "rules": _in_force(query, config, ad, rules), "targeting": _read(rules)}
        for ad, rules in zip(ads, why.targeting[len(missing) :], strict=True)
    ]
    source = "fallback" if isinstance(outcome, str) else "model"
    return {"source": source, "left_out": found, "passed": passed, "closed": why.closed, "told": why.told}


async def _asked(model: LoadedModel, query: Query, ads: Sequence[Ad]) -> Why:
    if model.why is None:
        return Why([[] for _ in ads], [None] * len(ads), {}, [])
    return await asyncio.get_running_loop().run_in_executor(None, model.why, query, [ad["item_id"] for ad in ads])


def _read(rules: str | None) -> dict[str, Any] | None:
    return None if rules is None else dict(json.loads(rules))


def _in_force(query: Query, config: ServingConfig, ad: Ad, targeting: str | None) -> list[str]:
    """The rules that an ad of the answer was held against."""
    blocked, allowed = query.blocked, query.allowed
    names = [f"blocked_{name}" for name in ("item_ids", "advertisers", "categories") if getattr(blocked, name)]
    names += ["exclude_seen"] if blocked.seen else []
    names += [f"allowed_{one.name}" for one in fields(allowed) if getattr(allowed, one.name) is not None]
    names += ["targeting"] if targeting is not None else []
    names += [f"frequency_cap_{name}" for name in dict.fromkeys(cap.of for cap in config.frequency_caps)]
    names += ["budget"] if config.budgets.is_kept and ad.get("campaign") else []
    return (
        names
        + (["floor_ecpm"] if query.floor_ecpm > 0 else [])
        + [f"most_per_{name}" for name in config.list_rules.most]
    )


def _of_list(ad: Ad, query: Query, full: Listing, category: str | None, most: Mapping[str, int]) -> list[str]:
    """The rules that look at more than the ad itself."""
    names = []
    if query.floor_ecpm > 0 and (ad["expected_ecpm"] or 0.0) < query.floor_ecpm:
        names.append("floor_ecpm")
    for place, (rule, kind) in enumerate(zip(most, kinds_of(ad, category, most), strict=True)):
        if kind is not None and kind in full.full(place):
            names.append(f"most_per_{rule}")
    return names
