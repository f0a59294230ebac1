"""The simulated market's log in the platform's own contract, so that every step runs on it as on a real one.

Impressions are thinned: one in `KEEP` stays, with its weight in `exposure_weight`, except where something followed.
Where the market tells of users there is a table of them, and every event has their features as its request tells them.

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
from adbeam.market.truth.organic import Organic
from adbeam.market.truth.scenes import SCENE_NAMES
from adbeam.market.world import START_MS, Requests, World
from adbeam.records import CATALOGUE_SCHEMA, DAY_MS, EVENT_SCHEMA

KEEP = 8
FEATURE = "exposure_weight"
SCHEMA = EVENT_SCHEMA.append(pa.field(FEATURE, pa.float64()))
AD, USER = "ad", "user"
"""How ids of ads and users begin."""
EVENTS, CATALOGUE, USERS = "events.parquet", "catalogue.parquet", "users.parquet"


def write_log(world: World, folder: Path, days: int | None = None, *, told: bool = True) -> dict[str, Any]:
    """Write events of the days [0, days) under the logging policy, catalogue, and users where the market tells of them;
    returns values for the `logs` section, as `log_settings` does.

    The last two days are test, the two before validation.
    """
    days = world.config.days if days is None else days
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(catalogue(world), folder / CATALOGUE)
    if world.config.tells_users:
        pq.write_table(users(world), folder / USERS)
    market = Market(world)
    with pq.ParquetWriter(folder / EVENTS, schema_of(world), compression="zstd") as writer:
        for day in range(days):
            requests = world.requests(day)
            ads = world.logging_choice(requests)
            shown = events_of(world, requests, ads, market.play(requests, ads))
            writer.write_table(with_organic(world, requests, shown))
    return log_settings(world, folder, days, told=told)


def log_settings(world: World, folder: Path, days: int, *, told: bool = True) -> dict[str, Any]:
    """Values for the `logs` section of a log of `days` in `folder`; `told`: with the table of users, where there is
    one."""
    return {
        "source": "files",
        "files": {
            "events": {
                "path": str(folder / EVENTS),
                "features": {FEATURE: "number"} | dict.fromkeys(user_features(world), "string"),
            },
            "catalogue": str(folder / CATALOGUE),
            "impression_weight": FEATURE,
            **({"users": str(folder / USERS)} if told and world.config.tells_users else {}),
        },
        "split": {
            "by": "time",
            "validation_from": START_MS + (days - 4) * DAY_MS,
            "test_from": START_MS + (days - 2) * DAY_MS,
        },
    }


def user_features(world: World) -> tuple[str, ...]:
    """Features of users that the log tells."""
    if not world.config.tells_users:
        return ()
    return ("segment", "age_band", "region") if world.config.segments else ("age_band", "region")


def schema_of(world: World) -> pa.Schema:
    """SCHEMA, then the features that requests tell."""
    return pa.schema([*SCHEMA, *(pa.field(name, pa.string()) for name in user_features(world))])


def users(world: World) -> pa.Table:
    """`user_id` and the features of every user."""
    numbers = np.arange(world.config.users)
    told = world.users.columns(numbers)
    return pa.table(
        {"user_id": [user_id(number) for number in numbers.tolist()]}
        | {name: told[name] for name in user_features(world)}
    )


def catalogue(world: World) -> pa.Table:
    """CATALOGUE_SCHEMA and, where ads are targeted, their rules; organic items come last. `price` is the bid for a
    conversion, the title says category and brand in words."""
    ads = _ads(world)
    if world.audiences is not None:
        ads = ads.append_column("targeting", pa.array(world.audiences.rules(), pa.string()))
    if world.organic is None:
        return ads
    return pa.concat_tables([ads, _organic_items(world.organic)], promote_options="default")


def _organic_items(organic: Organic) -> pa.Table:
    numbers = range(len(organic.category_M))
    columns: dict[str, Any] = {
        "item_id": [organic_id(number) for number in numbers],
        "kind": ["organic"] * len(numbers),
        "title": [f"simulated category{c} item{n}" for c, n in zip(organic.category_M, numbers, strict=True)],
        "category": [f"category{c}" for c in organic.category_M],
        "status": ["active"] * len(numbers),
    }
    nothing = pa.nulls(len(numbers))
    return pa.table({name: columns.get(name, nothing) for name in CATALOGUE_SCHEMA.names}).cast(CATALOGUE_SCHEMA)


def _ads(world: World) -> pa.Table:
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
    return f"{AD}{number}"


def organic_id(number: int) -> str:
    """The item id of an organic item."""
    return f"organic{number}"


def user_id(number: int) -> str:
    """The id of a user."""
    return f"{USER}{number}"


def request_id(requests: Requests, place: int) -> str:
    """The id of a request."""
    return f"{requests.day}-{place}"


def events_of(world: World, requests: Requests, ad_Rn: np.ndarray, outcome: Outcome) -> pa.Table:
    """`schema_of`: impressions of what was looked at (thinned), clicks and conversions, in time order."""
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
        "scene": [SCENE_NAMES[requests.scene_R[p]] for p in place.tolist()],
        "bid": world.bid_N[ad],
        "ecpm": pa.nulls(len(ad), pa.float64()),
        "price": pa.array(world.bid_N[ad], mask=action != "conversion"),
    }
    return _told(world, columns, user)


def with_organic(world: World, requests: Requests, shown: pa.Table) -> pa.Table:
    """Events of a day and the clicks on organic items before its requests, in time order."""
    organic = world.organic_events(requests)
    if organic is None:
        return shown
    count, user = len(organic.place_E), requests.user_R[organic.place_E]
    columns: dict[str, Any] = {
        "event_id": [f"{requests.day}-organic{number}" for number in range(count)],
        "request_id": [f"{requests.day}-organic{number}" for number in range(count)],
        "user_id": [user_id(number) for number in user.tolist()],
        "timestamp": organic.time_E,
        "item_id": [organic_id(number) for number in organic.item_E.tolist()],
        "item_kind": ["organic"] * count,
        "action": ["click"] * count,
        "scene": [SCENE_NAMES[scene] for scene in requests.scene_R[organic.place_E].tolist()],
        FEATURE: np.ones(count),
    }
    columns |= {name: pa.nulls(count) for name in SCHEMA.names if name not in columns}
    return pa.concat_tables([shown, _told(world, columns, user)]).sort_by([("timestamp", "ascending")])


def _told(world: World, columns: dict[str, Any], user_N: np.ndarray) -> pa.Table:
    """Events with what their requests tell of the users."""
    schema = schema_of(world)
    if world.config.tells_users:
        columns = columns | world.users.columns(user_N)
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


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
