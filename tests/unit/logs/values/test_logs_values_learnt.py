"""Whoever learns from a prepared log, or judges by it, reads what its targets are worth (`logs.value: ecpm`)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from tests.support.logs.impression_log import ImpressionLog
from tests.support.training.samples import CODEBOOKS, sample_sids, training_config

from adbeam import artifacts
from adbeam.export.money_share import check_money, training_money
from adbeam.logs.prepared import PreparedLog
from adbeam.online.histories import NEW, Fresh, Histories
from adbeam.pseudonyms import pseudonym
from adbeam.records import ACTIONS
from adbeam.training.data.build_rows import build_rows
from adbeam.workdir import SIDS, WorkDir

CONVERSION = ACTIONS.index("conversion")
KEY = b"0123456789abcdef"


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedLog:
    """Two ads: item0 at 1,000 x 1/10 x 5 = 500, item3 at 1,000 x 4/10 x 2 = 800 (nearly: rates shrink)."""
    log = ImpressionLog()
    log.show("item0", "feed", 2000, clicks=200, orders=200, price=5.0)
    log.show("item3", "feed", 2000, clicks=800, orders=800, price=2.0)
    return log.prepare(tmp_path)


def test_rows_and_their_buckets_hold_it(tmp_path: Path, prepared: PreparedLog) -> None:
    with artifacts.publish(WorkDir(tmp_path).tokens, {}) as staging:
        pq.write_table(sample_sids(prepared.catalogue()), staging / SIDS)
        save_file({"level_0": torch.zeros(CODEBOOKS[0], 4)}, staging / "codebooks.safetensors")
    store = build_rows(training_config(tmp_path), use_ray=False)
    values = np.unique(store.value_sample)
    assert values == pytest.approx([500, 800], rel=0.02)
    assert store.user_value_sample.sum() == pytest.approx(200 * 5 + 800 * 2)  # a user is worth what was paid


def test_export_counts_the_money_that_learning_does(prepared: PreparedLog) -> None:
    money = training_money(prepared.sequences(), "conversion")
    assert money.rows.total() == 1000 and money.largest == pytest.approx(800, rel=0.02)
    assert "hold 0.1% of it" in check_money(prepared, "conversion", 0.5)


def test_feedback_of_the_online_loop_is_worth_the_same(tmp_path: Path, prepared: PreparedLog) -> None:
    user, state = pseudonym(KEY, "user1"), tmp_path / "shard.db"
    with sqlite3.connect(state) as db:
        db.execute("CREATE TABLE events (event_id, user_id, request_id, item_id, timestamp, action, value, state)")
    moment = 2_000_000_000_000
    fresh = [
        Fresh("new", "item3", CONVERSION, moment, "feed", 77.0, NEW),
        Fresh("new", "no such ad", CONVERSION, moment + 1, "feed", 77.0, NEW),
    ]
    (sequence,) = Histories(prepared, KEY, {user}).sequences(state, {user: fresh})
    assert sequence.value_H[-2:].tolist() == [77.0, 77.0]
    assert sequence.worth_H[-2] == pytest.approx(800, rel=0.02) and 0 < sequence.worth_H[-1] < 800
    assert len(sequence.worth_H) == len(sequence) > 2
    assert set(sequence.worth_H[sequence.item_H == "item3"].tolist()) == {float(sequence.worth_H[-2])}


def test_a_log_of_prices_is_worth_them_in_the_online_loop(tmp_path: Path) -> None:
    log = ImpressionLog()
    log.show("item0", "feed", 20, clicks=5, orders=5, price=5.0)
    prepared = log.prepare(tmp_path, value="price_or_bid")
    user, state = pseudonym(KEY, "user1"), tmp_path / "shard.db"
    with sqlite3.connect(state) as db:
        db.execute("CREATE TABLE events (event_id, user_id, request_id, item_id, timestamp, action, value, state)")
    fresh = [Fresh("new", "item0", CONVERSION, 2_000_000_000_000, "feed", 77.0, NEW)]
    (sequence,) = Histories(prepared, KEY, {user}).sequences(state, {user: fresh})
    assert sequence.target_value_H is None and sequence.worth_H[-1] == 77.0
