"""Where products were promoted, and which purchases a redeemed coupon stands behind (Complete Journey).

Placements are kept as one sorted array of (store, week, product) keys with a kind of place each: a look-up is a binary
search, and all promotions of a store and week lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

WEEK_MS = 7 * 86_400_000
DAY_TURN_MS = 4 * 3_600_000
"""Days and weeks of the stores turn at 04:00 UTC."""
SECOND_WEEK_MS = 1_483_329_600_000
"""Monday 2017-01-02, 04:00 UTC: week 2 begins. Week 1 is the Sunday before it."""

_MAILER = tuple("ACDFHJLPXZ")
_DISPLAY = tuple("123456789A")
PLACEMENTS = (
    *(f"mailer_{place}" for place in _MAILER),
    *(f"display_{place}" for place in _DISPLAY),
    "campaign",
    "organic",
)
OTHER_STORE = "other_store"
_NO_PLACE = "0"
_BATCH_ROWS = 1 << 20
_PRODUCT_BITS = 32
_WEEK_BITS = 6
_KIND_BITS = 5


def week_start_ms(week: int) -> int:
    """When a week begins."""
    return SECOND_WEEK_MS + (week - 2) * WEEK_MS


def pair_key(basket: np.ndarray, product: np.ndarray) -> np.ndarray:
    """One int64 for a basket and product (37 and 26 bits)."""
    if len(basket) and (int(basket.max()) >> 37 or int(product.max()) >> 26):
        raise ValueError("basket or product numbers are larger than Complete Journey's")
    return (basket.astype(np.int64) << 26) | product.astype(np.int64)


@dataclass(frozen=True)
class Placements:
    """P placements: sorted keys, and an index into PLACEMENTS for each."""

    stores: np.ndarray
    key_P: np.ndarray
    kind_P: np.ndarray

    @classmethod
    def read(cls, path: Path, stores: np.ndarray, last_week: int) -> Self:
        """Stream the promotions and keep those of `stores` (ascending), weeks 1 to `last_week`."""
        columns = ["product_id", "store_id", "display_location", "mailer_location", "week"]
        with pq.ParquetFile(path) as file:
            parts = [_pack(batch, stores, last_week) for batch in file.iter_batches(_BATCH_ROWS, columns=columns)]
        packed = np.sort(np.concatenate(parts))
        key, kind = packed >> _KIND_BITS, packed & ((1 << _KIND_BITS) - 1)
        first = np.ones(len(key), dtype=bool)
        first[1:] = key[1:] != key[:-1]
        return cls(stores, key[first], kind[first].astype(np.uint8))

    def save(self, folder: Path) -> None:
        for name in ("stores", "key_P", "kind_P"):
            np.save(folder / f"places_{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(*(np.load(folder / f"places_{name}.npy", mmap_mode="r") for name in ("stores", "key_P", "kind_P")))

    @property
    def product_P(self) -> np.ndarray:
        return self.key_P & ((1 << _PRODUCT_BITS) - 1)

    @property
    def store_week_P(self) -> np.ndarray:
        """Store and week of each placement as one number, as `store_week` gives it."""
        return self.key_P >> _PRODUCT_BITS

    @property
    def products(self) -> np.ndarray:
        """Distinct promoted products, ascending."""
        return np.unique(self.product_P)

    def store_week(self, store: np.ndarray, week: np.ndarray) -> np.ndarray:
        """One number for a store and week; -1 where the store's promotions are not used."""
        place = np.searchsorted(self.stores, store).clip(max=len(self.stores) - 1)
        return np.where(self.stores[place] == store, (place << _WEEK_BITS) | week, -1)

    def placement_of(self, store: np.ndarray, week: np.ndarray, product: np.ndarray) -> np.ndarray:
        """Index into PLACEMENTS of a product in a store and week; `organic` where it was not promoted."""
        key = (self.store_week(store, week) << _PRODUCT_BITS) | product
        place = np.searchsorted(self.key_P, key).clip(max=max(0, len(self.key_P) - 1))
        found = self.key_P[place] == key if len(self.key_P) else np.zeros(len(key), dtype=bool)
        return np.where(found, self.kind_P[place], PLACEMENTS.index("organic")) if len(self.key_P) else _organic(key)

    def scene_of(self, store: np.ndarray) -> pa.Array:
        """Name of the scene of each store; stores whose promotions are not used share one."""
        place = np.searchsorted(self.stores, store).clip(max=len(self.stores) - 1)
        names = pa.array([*(f"store_{number}" for number in self.stores), OTHER_STORE])
        return names.take(pa.array(np.where(self.stores[place] == store, place, len(self.stores))))

    def range_of(self, store_week: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last-plus-one placement of each store and week."""
        low = np.searchsorted(self.key_P, store_week << _PRODUCT_BITS)
        return low, np.searchsorted(self.key_P, (store_week + 1) << _PRODUCT_BITS)


def match_redemptions(
    redemptions: pa.Table, coupons: pa.Table, purchases: pa.Table, ads: np.ndarray, end_ms: int
) -> tuple[np.ndarray, dict[str, int]]:
    """(sorted pair keys of the purchases made on a coupon, counts). Redemptions from `end_ms` on are ignored."""
    day = pc.floor_temporal(redemptions["redemption_date"], unit="day").cast(pa.timestamp("ms"))
    redemptions = redemptions.append_column("day", day.cast(pa.int64()))
    redemptions = redemptions.filter(pc.less(redemptions["day"], end_ms - DAY_TURN_MS))
    redemptions = redemptions.append_column("redemption", pa.array(np.arange(redemptions.num_rows)))
    coupons = coupons.group_by(coupons.column_names).aggregate([])
    wanted = redemptions.join(coupons, keys=["coupon_upc", "campaign_id"], join_type="inner")
    matches = wanted.join(_by_day(purchases, wanted), keys=["household_id", "product_id", "day"], join_type="inner")
    order = [("redemption", "ascending"), ("coupon_disc", "descending"), ("sales_value", "descending")]
    matches = matches.sort_by([*order, ("basket_id", "ascending"), ("product_id", "ascending")])
    first = np.unique(matches["redemption"].to_numpy(), return_index=True)[1]
    basket, product = (matches[name].to_numpy()[first] for name in ("basket_id", "product_id"))
    is_ad = np.isin(product, ads)
    counts = {
        "redemptions": redemptions.num_rows,
        "redemptions_matched_to_a_purchase": len(first),
        "redemptions_of_ads": int(is_ad.sum()),
    }
    return np.unique(pair_key(basket[is_ad], product[is_ad])), counts


def _by_day(purchases: pa.Table, wanted: pa.Table) -> pa.Table:
    """Purchases of the households and products wanted, with the stores' day in milliseconds."""
    rows = purchases.filter(
        pc.and_(
            pc.is_in(purchases["household_id"], value_set=pc.unique(wanted["household_id"])),
            pc.is_in(purchases["product_id"], value_set=pc.unique(wanted["product_id"])),
        )
    )
    moments = rows["transaction_timestamp"].cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy()
    day = (moments - DAY_TURN_MS) // 86_400_000 * 86_400_000
    rows = rows.select(["household_id", "product_id", "basket_id", "sales_value", "coupon_disc"])
    return rows.append_column("day", pa.array(day, pa.int64()))


def _pack(batch: pa.RecordBatch, stores: np.ndarray, last_week: int) -> np.ndarray:
    """Placements of a batch as sortable numbers: store, week, product, kind; the preferred placement sorts first."""
    week, store = batch["week"], batch["store_id"]
    keep = pc.and_(pc.is_in(store, value_set=pa.array(stores)), pc.less_equal(week, last_week))
    placed = pc.or_(*(pc.not_equal(batch[name], _NO_PLACE) for name in ("mailer_location", "display_location")))
    batch = batch.filter(pc.and_(keep, placed))
    mailer = pc.index_in(batch["mailer_location"], value_set=pa.array(_MAILER))
    display = pc.add(pc.index_in(batch["display_location"], value_set=pa.array(_DISPLAY)), len(_MAILER))
    kind = pc.coalesce(mailer, display)
    batch, kind = batch.filter(kind.is_valid()), kind.drop_null().to_numpy().astype(np.int64)
    place = np.searchsorted(stores, batch["store_id"].to_numpy()).astype(np.int64)
    key = (place << _WEEK_BITS) | batch["week"].to_numpy()
    full: np.ndarray = ((key << _PRODUCT_BITS | batch["product_id"].to_numpy()) << _KIND_BITS) | kind
    return full


def _organic(key: np.ndarray) -> np.ndarray:
    return np.full(len(key), PLACEMENTS.index("organic"))
