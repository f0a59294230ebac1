"""jobs/journey_told.yaml on tables of the same form: households, stores and campaigns reach the model and the rules."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.logs.pipeline import run
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences
from adbeam.logs.sources.completejourney_households import OF_USERS, households
from adbeam.logs.told.items import item_codes
from adbeam.records import DAY_MS

YAML = Path(__file__).parents[4] / "jobs" / "journey_told.yaml"
FIRST_WEEK = datetime(2016, 12, 26, 10)
HOUSEHOLDS, PRODUCTS, STORES, WEEKS = 12, 30, (10, 20), 44
START, END = datetime(2017, 3, 6), datetime(2017, 4, 9)
RUNS = {1: (START, END), 2: (datetime(2017, 4, 1), datetime(2017, 5, 1))}
SENT = [(1, 3), (1, 4), (2, 3)]
"""Campaigns and the households that they were sent to."""


def write_tables(folder: Path) -> Path:
    """Every household buys three products in a store every other week; half of the products are promoted."""
    rng, buys = np.random.default_rng(0), list[dict[str, Any]]()
    for week in range(1, WEEKS + 1):
        for household in range(1 + week % 2, HOUSEHOLDS + 1, 2):
            for product in rng.choice(PRODUCTS, 3, replace=False).tolist():
                moment = FIRST_WEEK + timedelta(weeks=week - 1, hours=household)
                buys.append(
                    {"household_id": household, "store_id": STORES[household % 2], "basket_id": 100 * week + household,
                     "product_id": product, "sales_value": 1.0 + product, "coupon_disc": 0.0, "week": week,
                     "transaction_timestamp": moment}
                )  # fmt: skip
    columns = {
        "promotions": "product_id store_id display_location mailer_location week",
        "products": "product_id manufacturer_id department brand product_category product_type package_size",
        "coupons": "coupon_upc product_id campaign_id",
        "coupon_redemptions": "household_id coupon_upc campaign_id redemption_date",
        "demographics": " ".join(OF_USERS["demographics.parquet"]),
        "campaigns": "campaign_id household_id",
        "campaign_descriptions": "campaign_id campaign_type start_date end_date",
    }
    promoted = [(p, store, "2", "0", week) for week in range(1, WEEKS + 1) for store in STORES for p in range(0, 30, 2)]
    homes = [(n, "35-44" if n % 2 else "65+", "50-74K", None, "Married", "2", "2 Adults", "0") for n in range(1, 7)]
    rows: dict[str, list[tuple[Any, ...]]] = {
        "promotions": promoted,
        "products": [(p, p % 5, "GROCERY", "National", f"c{p % 4}", "t", "1 LB") for p in range(PRODUCTS)],
        "coupons": [(7, 0, 1), (8, 0, 2), (7, 2, 1), (7, 1, 1)],
        "coupon_redemptions": [(3, 7, 1, START)],
        "demographics": homes,
        "campaigns": SENT,
        "campaign_descriptions": [(number, "Type A", *days) for number, days in RUNS.items()],
    }
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(buys), folder / "transactions.parquet")
    for name, text in columns.items():
        table = pa.Table.from_pylist([dict(zip(text.split(), row, strict=True)) for row in rows[name]])
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def in_ms(moment: datetime) -> int:
    """Milliseconds since 1970, UTC."""
    return round((moment - datetime(1970, 1, 1)).total_seconds() * 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("journey") / "tables")


@pytest.fixture(scope="module")
def prepared(folder: Path) -> PreparedLog:
    config = Config.load(YAML, {"work_dir": str(folder.parent), "logs.completejourney.folder": str(folder)})
    return run(config, in_process=True)


def test_a_household_is_told_from_when_on_what_is_known_of_it_holds(folder: Path) -> None:
    rows = [row for row in households(folder).to_pylist() if row["user_id"] == 3]
    day = [in_ms(moment) for moment in (START, RUNS[2][0], END, RUNS[2][1])]
    assert [row["campaigns"] for row in rows] == [[], ["1"], ["1", "2"], ["2"], []]
    assert rows[0]["valid_from"] is None
    assert [row["valid_from"] for row in rows[1:]] == [day[0], day[1], day[2] + DAY_MS, day[3] + DAY_MS]
    assert {row["age"] for row in rows} == {"35-44"} and {row["home_ownership"] for row in rows} == {None}


def test_requests_are_told_demographics_campaigns_store_and_week(prepared: PreparedLog) -> None:
    encoder = prepared.told()
    assert encoder is not None and not item_codes(prepared.catalogue(), encoder).shape[1]
    names = [one.name for one in encoder.features for _ in range(one.columns)]
    words = {one.name: one.words or () for one in encoder.features}
    assert set(words["age"]) == {"35-44", "65+"} and set(words["store"]) == {"10", "20"}
    assert set(words["campaigns"]) == {"1", "2"} and not words["week"]
    sequences = {s.user_id: s for shard in prepared.sequences() for s in read_sequences(shard)}
    of = {name: names.index(name) for name in ("age", "campaigns", "home_ownership", "store", "week")}
    third, last = sequences["3"], sequences["12"]
    assert third.told_HF is not None and last.told_HF is not None
    start, end = in_ms(START), in_ms(END)
    runs = (third.timestamp_H >= start) & (third.timestamp_H < end + DAY_MS)
    assert (third.told_HF[runs, of["campaigns"]] >= 2).all()
    assert (third.told_HF[third.timestamp_H < start, of["campaigns"]] == 0).all()
    assert (third.told_HF[:, of["age"]] >= 2).all() and (last.told_HF[:, of["age"]] == 0).all()
    assert len(set(third.told_HF[:, of["store"]].tolist())) == 1 < len(set(third.told_HF[:, of["week"]].tolist()))


def test_ads_with_coupons_are_for_the_households_that_were_sent_them(prepared: PreparedLog) -> None:
    rules = {row["item_id"]: row["targeting"] for row in prepared.catalogue().to_pylist()}
    assert json.loads(rules.pop("0")) == {"campaigns": {"in": ["1", "2"]}}
    assert json.loads(rules.pop("2")) == {"campaigns": {"in": ["1"]}}
    assert not any(rules.values()), "product 1 is no ad"
    assert prepared.account["source"]["rows of users kept"] == 6 + 4 + 2


def test_a_log_that_declares_nothing_reads_no_households(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in folder.glob("*.parquet"):
        if path.name not in OF_USERS:
            (bare / path.name).symlink_to(path)
    given = {"work_dir": str(tmp_path), "logs.completejourney.folder": str(bare)}
    plain = run(Config.load(None, given), in_process=True)
    assert "targeting" not in plain.catalogue().column_names and plain.told() is None
    with pytest.raises(UserError, match=r"demographics\.parquet is missing"):
        run(Config.load(YAML, given), in_process=True)
