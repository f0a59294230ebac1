"""Implied impressions that led to no purchase, sampled without replacement for each visit (Complete Journey)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from adbeam.logs.sources.completejourney_places import PLACEMENTS, Placements

_SPARE_DRAWS = 12
"""Draws beyond those wanted, for the ones that hit what was bought or drawn before."""


def sample_impressions(
    bought: pa.Table, places: Placements, week: int, per_visit: int, rng: np.random.Generator
) -> pa.Table:
    """Up to `per_visit` promoted products a household did not buy in a store in `week`, as raw events.

    `bought` holds that week's purchases. The weight of an impression is the number of promoted products not bought,
    over the number sampled.
    """
    store_week = places.store_week(bought["store_id"].to_numpy(), bought["week"].to_numpy())
    bought = bought.filter(pa.array(store_week >= 0))
    store_week = store_week[store_week >= 0]
    moment = bought["transaction_timestamp"].cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy()
    household = bought["household_id"].to_numpy()
    order = np.lexsort((bought["basket_id"].to_numpy(), moment, household, store_week))
    is_first = np.ones(len(order), dtype=bool)
    same = (np.diff(store_week[order]) == 0) & (np.diff(household[order]) == 0)
    is_first[1:] = ~same
    visit = np.cumsum(is_first) - 1
    low, high = places.range_of(store_week[order][is_first])
    hit = _placements_bought(places, store_week[order], bought["product_id"].to_numpy()[order])
    taken = np.unique(np.stack([visit[hit >= 0], hit[hit >= 0]]), axis=1)
    left = (high - low) - np.bincount(taken[0], minlength=len(low))
    chosen_visit, chosen = _draw(low, high, taken, per_visit, rng)
    sampled = np.bincount(chosen_visit, minlength=len(low))
    weight = left[chosen_visit] / sampled[chosen_visit]
    first_row = order[is_first][chosen_visit]
    return _events(bought.take(pa.array(first_row)), places, chosen, weight)


def _placements_bought(places: Placements, store_week: np.ndarray, product: np.ndarray) -> np.ndarray:
    """Placement of each purchase, or -1 where the product was not promoted."""
    if not len(places.key_P):
        return np.full(len(product), -1)
    key = (store_week << 32) | product
    place = np.searchsorted(places.key_P, key).clip(max=len(places.key_P) - 1)
    return np.where(places.key_P[place] == key, place, -1)


def _draw(
    low: np.ndarray, high: np.ndarray, taken: np.ndarray, per_visit: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(visit, placement) of up to `per_visit` distinct placements in [low, high) a visit, none of them taken.

    Drawn with spares, of which those taken or drawn before are dropped: what is left is a uniform sample without
    replacement. A visit whose store promoted hardly anything may get fewer.
    """
    draws = per_visit + _SPARE_DRAWS if per_visit else 0
    visit = np.repeat(np.flatnonzero(high > low), draws)
    place = rng.integers(low[visit], high[visit]) if len(visit) else visit
    span = int(high.max(initial=0)) + 1
    key = visit * span + place
    first = np.zeros(len(key), dtype=bool)
    first[np.unique(key, return_index=True)[1]] = True
    usable = first & ~np.isin(key, taken[0] * span + taken[1])
    visit, place = visit[usable], place[usable]
    start = np.searchsorted(visit, visit, side="left")
    keep = np.arange(len(visit)) - start < per_visit
    return visit[keep], place[keep]


def _events(visits: pa.Table, places: Placements, place: np.ndarray, weight: np.ndarray) -> pa.Table:
    """Raw events of the placements `place`, each at the first basket of its visit."""
    product = places.product_P[place]
    basket = visits["basket_id"].to_numpy()
    ids = [f"{b}-{p}-view" for b, p in zip(basket.tolist(), product.tolist(), strict=True)]
    return pa.table(
        {
            "event_id": pa.array(ids, pa.string()),
            "request_id": visits["basket_id"],
            "user_id": visits["household_id"],
            "timestamp": visits["transaction_timestamp"],
            "item_id": product,
            "item_kind": pa.repeat("ad", len(ids)),
            "scene": places.scene_of(visits["store_id"].to_numpy()),
            "placement": pa.array(PLACEMENTS).take(pa.array(places.kind_P[place].astype(np.int64))),
            "action": pa.repeat("impression", len(ids)),
            "store_id": visits["store_id"],
            "week": visits["week"],
            "exposure_weight": weight,
        }
    )
