"""Conversions of all users by hour, and the trends that a replica reads off them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.support.serving.store_events import Open, ad_conversion, event

from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.logs.trending import count_by_hour, windows_of
from adbeam.model.config import ModelConfig
from adbeam.records import HOUR_MS
from adbeam.serving.stores.load import load_histories
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.serving.stores.trends import FRESH_SECONDS, StoreTrends


def test_ad_conversions_are_counted_once_by_hour_for_all_users(open_one: Open) -> None:
    store = open_one()
    store.append([ad_conversion(1, "a", 500), ad_conversion(2, "a", 500, user="v"), ad_conversion(3, "b", 480)])
    store.append([ad_conversion(1, "a", 500), ad_conversion(4, "a", 501), ad_conversion(5, "c", 340)])
    store.append([event(6, timestamp=500 * HOUR_MS, item_kind="organic"), ad_conversion(7, "d", 500, action="click")])
    day, three_days, week = open_one().conversions(501)
    assert day == {"a": 2, "b": 1} and three_days == {"a": 2, "b": 1} and week == {"a": 2, "b": 1, "c": 1}
    assert store.conversions(480)[2] == {"c": 1} and store.conversions(2000) == ({}, {}, {})


def test_a_loaded_log_brings_its_conversions_once(open_one: Open, prepared: Path) -> None:
    store = open_one()
    load_histories(prepared, store)
    load_histories(prepared, open_one())
    counted = count_by_hour(pq.read_table(prepared / "sequences"))
    last = max(counted["hour"].to_pylist())
    rows = zip(*(counted[name].to_pylist() for name in counted.column_names), strict=True)
    assert store.conversions(last + 1) == windows_of(rows, last + 1)
    assert sum(store.conversions(last + 1)[0].values()) > 0


def test_trends_of_a_replica_are_those_of_its_store_and_renewed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.sqlite")
    sids = SidTable.of(["a", "b"], np.array([[1, 2], [3, 4]], dtype=np.int32))
    spec = FeatureSpec.of(ModelConfig(codebooks=(8, 8), trending_length=3))
    seconds = [0.0]
    trends = StoreTrends(store, sids, spec, clock=lambda: seconds[0])
    moment = 501 * HOUR_MS
    assert (trends.at(moment)[0] == -1).all()
    store.append([ad_conversion(1, "a", 500), ad_conversion(2, "unknown", 500)])
    assert (trends.at(moment)[0] == -1).all()  # a minute old at most
    seconds[0] = FRESH_SECONDS + 1
    trends.at(moment)
    for thread in threading.enumerate():
        if thread.name == "trends":
            thread.join()
    assert trends.at(moment)[0].tolist() == [[1, 2], [-1, -1], [-1, -1]]
    store.close()


def test_a_store_that_cannot_be_read_has_no_trends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(tmp_path / "h.sqlite")
    with store.transaction() as connection:
        connection.execute("DROP TABLE conversions")
    spec = FeatureSpec.of(ModelConfig(codebooks=(8, 8), trending_length=3))
    trends = StoreTrends(store, SidTable.of(["a"], np.array([[1, 2]], dtype=np.int32)), spec)
    assert (trends.at(501 * HOUR_MS)[0] == -1).all() and "conversions cannot be read" in caplog.text
    store.close()
