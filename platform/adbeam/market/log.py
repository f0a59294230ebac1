"""The simulated market's log in the platform's own contract, so that every step runs on it as on a real one.

Impressions are thinned: one in `KEEP` stays, with its weight in `exposure_weight`, except where something followed.

Shapes: R requests, n shown ads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.market.play import Market, Outcome
from adbeam.market.world import SCENES, START_MS, Requests, World
from adbeam.records import CATALOGUE_SCHEMA, DAY_MS, EVENT_SCHEMA

KEEP = 8
FEATURE = "exposure_weight"
SCHEMA = EVENT_SCHEMA.append(pa.field(FEATURE, pa.float64()))


def write_log(world: World, folder: Path, days: int | None = None) -> dict[str, Any]:
    """Write events and catalogue of the days [0, days) under the logging policy; returns values for the `logs` section.

    The last two days are test, the two before validation.
    """
    days = world.config.days if days is None else days
    folder.mkdir(parents=True, exist_ok=True)
    events, items = folder / "events.parquet", folder / "catalogue.parquet"
    pq.write_table(catalogue(world), items)
    market = Market(world)
    with pq.ParquetWriter(events, SCHEMA, compression="zstd") as writer:
        for day in range(days):
            requests = world.requests(day)
            ads = world.logging_choice(requests)
            writer.write_table(events_of(world, requests, ads, market.play(requests, ads)))
    return log_settings(world, folder, days)


def log_settings(world: World, folder: Path, days: int) -> dict[str, Any]:
    """Values for the `logs` section of a log of `days` in `folder`."""
    return {
        "source": "files",
        "files": {
            "events": {"path": str(folder / "events.parquet"), "features": {FEATURE: "number"}},
            "catalogue": str(folder / "catalogue.parquet"),
            "impression_weight": FEATURE,
        },
        "split": {
            "by": "time",
            "validation_from": START_MS + (days - 4) * DAY_MS,
            "test_from": START_MS + (days - 2) * DAY_MS,
        },
    }


def catalogue(world: World) -> pa.Table:
    """CATALOGUE_SCHEMA; `price` is the bid for a conversion, the title says category and brand in words."""
    config = world.config
    numbers = np.arange(config.ads)
    columns: dict[str, Any] = {
        "item_id": [ad_id(number) for number in numbers.tolist()],
        "kind": ["ad"] * config.ads,
        "title": [
            f"simulated category{c} brand{b} ad{n}"
            for c, b, n in zip(world.category_N, world.brand_N, numbers, strict=True)
        ],
        "category": [f"category{c}" for c in world.category_N],
        "brand": [f"brand{b}" for b in world.brand_N],
        "advertiser": [f"advertiser{a}" for a in world.advertiser_N],
        "price": world.bid_N,
        "ecpm": 1000 * config.click_rate * config.conversion_rate * world.bid_N,
        "status": ["active"] * config.ads,
    }
    return pa.table({name: columns[name] for name in CATALOGUE_SCHEMA.names}).cast(CATALOGUE_SCHEMA)


def ad_id(number: int) -> str:
    """The item id of an ad."""
    return f"ad{number}"


def user_id(number: int) -> str:
    """The id of a user."""
    return f"user{number}"


def request_id(requests: Requests, place: int) -> str:
    """The id of a request."""
    return f"{requests.day}-{place}"


def events_of(world: World, requests: Requests, ad_Rn: np.ndarray, outcome: Outcome) -> pa.Table:
    """SCHEMA: impressions of what was looked at (thinned), clicks and conversions, in time order."""
    parts = list(_columns(world, requests, ad_Rn, outcome))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(joined["timestamp"], kind="stable")
    columns: dict[str, Any] = {name: values[order] for name, values in joined.items()}
    user, place, ad = columns.pop("user"), columns.pop("place"), columns.pop("ad")
    request = [request_id(requests, p) for p in place.tolist()]
    action = columns["action"]
    columns |= {
        "event_id": [f"{r}-{a}-{x}" for r, a, x in zip(request, ad.tolist(), action.tolist(), strict=True)],
        "request_id": request,
        "user_id": [user_id(number) for number in user.tolist()],
        "item_id": [ad_id(number) for number in ad.tolist()],
        "item_kind": ["ad"] * len(ad),
        "scene": [SCENES[requests.scene_R[p]] for p in place.tolist()],
        "bid": world.bid_N[ad],
        "ecpm": pa.nulls(len(ad), pa.float64()),
        "price": pa.array(world.bid_N[ad], mask=action != "conversion"),
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)


def _columns(world: World, requests: Requests, ad_Rn: np.ndarray, outcome: Outcome) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng((world.seed, 6, requests.day))
    kept = outcome.looked & (outcome.clicked | (rng.random(ad_Rn.shape) < 1 / KEEP))
    weight = np.where(outcome.clicked, 1.0, KEEP)
    times = {"impression": requests.time_R[:, None] + np.zeros_like(ad_Rn), "click": outcome.click_ms,
             "conversion": outcome.convert_ms}  # fmt: skip
    chosen = {"impression": kept, "click": outcome.clicked, "conversion": outcome.converted}
    for action, where in chosen.items():
        place, slot = np.nonzero(where)
        yield {
            "timestamp": times[action][place, slot].astype(np.int64),
            "user": requests.user_R[place],
            "place": place,
            "ad": ad_Rn[place, slot],
            "action": np.full(len(place), action, dtype=object),
            "position": slot.astype(np.int32),
            FEATURE: weight[place, slot],
        }
