"""The update log and its followers: order, durability, replay, a change of codebooks."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from adbeam.catalogue.follower import Follower, encode_ad, insertion
from adbeam.catalogue.index import SidIndex
from adbeam.catalogue.updates import AdChange, AdUpdate, SqliteUpdateLog
from adbeam.errors import UserError
from adbeam.records import CATALOGUE_SCHEMA, MOST_MONEY, CatalogueItem
from adbeam.tokens.config import TokensConfig
from adbeam.tokens.tokenizer import Tokenizer

WORDS = ("bread", "cheese", "coffee", "fruit", "soap", "wine", "tea", "salt")


def fitted(seed: int = 0) -> Tokenizer:
    random = np.random.default_rng(seed)
    rows = [
        {
            "item_id": f"ad{n}",
            "kind": "ad",
            "title": " ".join(random.choice(WORDS, 3)),
            "status": "active",
            "price": n + 1.0,
        }
        for n in range(200)
    ]
    tokenizer = Tokenizer.build(TokensConfig(), (8, 4, 64), seed=seed)
    tokenizer.fit(pa.Table.from_pylist(rows, schema=CATALOGUE_SCHEMA), None, seed=seed)
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return fitted()


def new_ad(item_id: str, **values: object) -> CatalogueItem:
    return CatalogueItem(**{"item_id": item_id, "title": "dark coffee", "price": 3.0, "ecpm": 1.0, **values})


def test_numbers_are_dense_and_survive_reopening(tmp_path: Path) -> None:
    log = SqliteUpdateLog(tmp_path / "updates.sqlite")
    assert log.last() == 0 and log.read(0) == []
    assert log.append([AdUpdate(operation="pause", item_id="a"), AdUpdate(operation="resume", item_id="a")]) == 2
    assert SqliteUpdateLog(tmp_path / "updates.sqlite").append([AdUpdate(operation="remove", item_id="a")]) == 3
    page = log.read(1)
    assert [(entry.number, entry.update.operation) for entry in page] == [(2, "resume"), (3, "remove")]
    assert log.read(0, limit=1)[0].number == 1


def test_dropped_or_foreign_updates_are_an_error_not_a_gap(tmp_path: Path) -> None:
    log = SqliteUpdateLog(tmp_path / "updates.sqlite")
    log.append([AdUpdate(operation="pause", item_id=str(n)) for n in range(5)])
    log.drop(3)
    assert [entry.number for entry in log.read(3)] == [4, 5] and log.last() == 5
    with pytest.raises(UserError, match="no longer holds the updates 3 to 3"):
        log.read(2)
    with pytest.raises(UserError, match="ends at 5, before the watermark 9"):
        log.read(9)
    log.drop(5)
    assert log.append([AdUpdate(operation="pause", item_id="x")]) == 6


def test_what_is_appended_during_a_read_is_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, writer = SqliteUpdateLog(tmp_path / "log"), SqliteUpdateLog(tmp_path / "log")

    def late() -> int:
        writer.append([AdUpdate(operation="remove", item_id="a")])
        return SqliteUpdateLog.last(log)

    monkeypatch.setattr(log, "last", late)
    assert [update.number for update in log.read(0)] == [1]


def test_a_file_that_is_no_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match="is not an update log"):
        SqliteUpdateLog(tmp_path / "other")


def test_incomplete_updates_are_refused() -> None:
    with pytest.raises(ValidationError, match="needs the item"):
        AdUpdate(operation="insert", item_id="a")
    with pytest.raises(ValidationError, match="needs ecpm"):
        AdUpdate(operation="update", item_id="a")


def test_money_beyond_reason_is_refused_and_read_as_the_bound_where_it_was_stored(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="less than or equal to"):
        AdChange(operation="update", item_id="a", ecpm=1e300)
    path = tmp_path / "log"
    log = SqliteUpdateLog(path)
    log.append([AdUpdate(operation="update", item_id="a", ecpm=7.0), insertion_of(price=3.0)])
    with sqlite3.connect(path) as stored:
        stored.execute("UPDATE updates SET body = replace(replace(body, '7.0', '1e300'), '3.0', '1e39')")
    update, insert = (numbered.update for numbered in log.read(0))
    assert insert.item is not None and insert.item.ecpm == 1.0
    assert update.ecpm == insert.item.price == MOST_MONEY


def insertion_of(**values: Any) -> AdUpdate:
    return AdUpdate(operation="insert", item_id="a", item=new_ad("a", **values))


def test_a_new_ad_gets_the_codes_of_its_like(tokenizer: Tokenizer) -> None:
    one, two = encode_ad(tokenizer, new_ad("x")), encode_ad(tokenizer, new_ad("y"))
    assert one[:2] == two[:2] and one != two
    assert one == encode_ad(Tokenizer.from_state(*tokenizer.state()), new_ad("x"))
    with pytest.raises(UserError, match="title: the ad has no text"):
        encode_ad(tokenizer, CatalogueItem(item_id="z", title=""))


def test_a_follower_applies_every_operation_and_skips_what_it_cannot(tokenizer: Tokenizer, tmp_path: Path) -> None:
    log, index, heard = SqliteUpdateLog(tmp_path / "log"), SidIndex(3), []
    follower = Follower(log, index, tokenizer, listener=lambda update, sid: heard.append((update.item_id, sid)))
    log.append([insertion(tokenizer, new_ad("x")), insertion(tokenizer, new_ad("p", status="paused"))])
    log.append([AdUpdate(operation="pause", item_id="unknown"), AdUpdate(operation="update", item_id="x", ecpm=7.0)])
    assert follower.poll() == 4 and follower.skipped == 1 and follower.watermark == 4
    sid = encode_ad(tokenizer, new_ad("x"))
    entry = index.entry("x")
    assert index.items(sid) == ["x"] and entry and entry.ecpm == 7.0 and index.item_ids == ["x"]
    assert heard == [("x", sid), ("p", encode_ad(tokenizer, new_ad("p"))), ("x", sid)]
    log.append([AdUpdate(operation="resume", item_id="p"), AdUpdate(operation="remove", item_id="x")])
    assert follower.poll() == 2 and index.item_ids == ["p"]
    assert follower.poll() == 0


def test_a_swap_replays_from_the_watermark_with_the_new_codebooks(tokenizer: Tokenizer, tmp_path: Path) -> None:
    log = SqliteUpdateLog(tmp_path / "log")
    log.append([insertion(tokenizer, new_ad(f"ad{n}", title=WORDS[n])) for n in range(6)])
    other = fitted(seed=1)
    assert other.version != tokenizer.version == fitted().version
    index = SidIndex(3)
    assert Follower(log, index, other, watermark=2).poll() == 4
    assert index.item_ids == [f"ad{n}" for n in range(2, 6)]
    assert index.sid("ad5") == encode_ad(other, new_ad("ad5", title=WORDS[5]))


def test_a_started_follower_keeps_up_and_stops(tokenizer: Tokenizer, tmp_path: Path) -> None:
    log, index = SqliteUpdateLog(tmp_path / "log"), SidIndex(3)
    follower = Follower(log, index, tokenizer, interval_seconds=0.01)
    follower.start()
    log.append([insertion(tokenizer, new_ad("x"))])
    deadline = time.monotonic() + 20
    while "x" not in index and time.monotonic() < deadline:
        time.sleep(0.005)
    follower.stop()
    assert "x" in index
    log.append([AdUpdate(operation="remove", item_id="x")])
    assert "x" in index
