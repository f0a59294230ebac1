"""The catalogue of the Complete Journey log: what was promoted (ads) and what was bought besides (organic items).

Prices and eCPM come from training weeks only, so that nothing of validation or test leaks into what is ranked by:

* price: median `sales_value` of a purchase in training; else the median of its category, else of all purchases;
* eCPM = 1000 x price x rate, rate = (conversions + a x r) / (exposures + a), where an exposure is a household's visit
  (store and week) to a promoted product, r is the rate over all ads, and a is `ecpm_prior_exposures`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adbeam.logs.sources.completejourney_places import Placements, week_start_ms
from adbeam.records import CATALOGUE_SCHEMA

FEATURES = ("department", "product_type", "package_size")


def build_items(
    purchases: pa.Table, products: pa.Table, places: Placements, train_until_ms: int, prior_exposures: float
) -> pa.Table:
    """CATALOGUE_SCHEMA and the features department, product_type and package_size, one row an item."""
    bought = np.unique(purchases["product_id"].to_numpy())
    wanted = pa.array(np.union1d(bought, places.products))
    products = products.filter(pc.is_in(products["product_id"], value_set=wanted)).combine_chunks()
    number = products["product_id"].to_numpy()
    ad = np.isin(number, places.products)
    in_training = pc.less(purchases["week"], _first_held_out_week(train_until_ms))
    train = purchases.filter(in_training)
    price = item_prices(train, products)
    rate = conversion_rates(train, places, train_until_ms, number, prior_exposures)
    columns = {
        "item_id": products["product_id"].cast(pa.string()),
        "kind": pc.if_else(pa.array(ad), "ad", "organic"),
        "title": _titles(products),
        "category": products["product_category"],
        "brand": products["brand"],
        "advertiser": products["manufacturer_id"].cast(pa.string()),
        "price": pa.array(price),
        "ecpm": pc.if_else(pa.array(ad), pa.array(1000 * rate * price), None),
        "status": pa.repeat("active", products.num_rows),
    }
    columns |= {name: products[name].cast(pa.string()) for name in FEATURES}
    schema = pa.schema([*CATALOGUE_SCHEMA, *(pa.field(name, pa.string()) for name in FEATURES)])
    return pa.table(columns).cast(schema)


def item_prices(train: pa.Table, products: pa.Table) -> np.ndarray:
    """Median value of a purchase of each product; of its category where it was never bought; else of all."""
    number = products["product_id"].to_numpy()
    value = train["sales_value"].to_numpy()
    place = np.searchsorted(np.sort(number), train["product_id"].to_numpy()).clip(max=max(0, len(number) - 1))
    row = np.argsort(number)[place]
    known = number[row] == train["product_id"].to_numpy()
    row, value = row[known], value[known]
    overall = float(np.median(value)) if len(value) else 0.0
    category = (
        products["product_category"].combine_chunks().dictionary_encode(null_encoding="encode").indices.to_numpy()
    )
    by_category = group_medians(category[row], value, int(category.max(initial=0)) + 1)
    by_product = group_medians(row, value, len(number))
    fallback = np.where(np.isnan(by_category), overall, by_category)[category]
    return np.where(np.isnan(by_product), fallback, by_product)


def group_medians(group: np.ndarray, value: np.ndarray, groups: int) -> np.ndarray:
    """Median value of each group 0 ... groups - 1; NaN where it has none."""
    order = np.lexsort((value, group))
    ordered, count = value[order], np.bincount(group, minlength=groups)
    start = np.cumsum(count) - count
    medians = np.full(groups, np.nan)
    some = count > 0
    low, high = start[some] + (count[some] - 1) // 2, start[some] + count[some] // 2
    medians[some] = (ordered[low] + ordered[high]) / 2
    return medians


def conversion_rates(
    train: pa.Table, places: Placements, train_until_ms: int, number: np.ndarray, prior_exposures: float
) -> np.ndarray:
    """Smoothed conversions per implied exposure of each product in training."""
    store_week = places.store_week(train["store_id"].to_numpy(), train["week"].to_numpy())
    in_stores = store_week >= 0
    store_week, household = store_week[in_stores], train["household_id"].to_numpy()[in_stores]
    product = train["product_id"].to_numpy()[in_stores]
    visits = np.unique(np.stack([store_week, household]), axis=1)[0]
    visit_count = np.bincount(visits, minlength=int(places.store_week_P.max(initial=0)) + 1)
    in_training = (places.store_week_P & 63) < _first_held_out_week(train_until_ms)
    exposures = _sum_by(number, places.product_P[in_training], visit_count[places.store_week_P[in_training]])
    bought = np.unique(np.stack([store_week, household, product]), axis=1)
    placed = np.isin((bought[0] << 32) | bought[2], places.key_P)
    conversions = _sum_by(number, bought[2][placed], np.ones(int(placed.sum())))
    overall = conversions.sum() / max(exposures.sum(), 1.0)
    rate: np.ndarray = (conversions + prior_exposures * overall) / (exposures + prior_exposures)
    return rate


def _sum_by(number: np.ndarray, product: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum of `weight` for each of `number` (distinct products, any order); products not among them are left out."""
    order = np.argsort(number)
    place = np.searchsorted(number, product, sorter=order).clip(max=max(0, len(number) - 1))
    row = order[place]
    known = number[row] == product
    return np.bincount(row[known], weights=weight[known], minlength=len(number))


def _first_held_out_week(train_until_ms: int) -> int:
    """The first week that is not wholly before `train_until_ms`."""
    week = 1
    while week_start_ms(week + 1) <= train_until_ms:
        week += 1
    return week


def _titles(products: pa.Table) -> pa.ChunkedArray:
    """Type, category, brand and package size, as far as known."""
    parts = [products[name].cast(pa.string()) for name in ("product_type", "product_category", "brand", "package_size")]
    return pc.binary_join_element_wise(*parts, ", ", null_handling="skip")
