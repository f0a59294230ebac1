"""The update log folded into a catalogue, and the log in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.support.redis_server import free_port, redis_server

from adbeam.catalogue.config import UpdatesConfig
from adbeam.catalogue.fold_updates import fold_updates
from adbeam.catalogue.open_updates import open_log
from adbeam.catalogue.updates import AdUpdate, SqliteUpdateLog, UpdateLog
from adbeam.errors import UserError
from adbeam.records import CATALOGUE_SCHEMA, CatalogueItem
from adbeam.tokens.tokenizer import Encoded


class Encoder:
    """Gives every ad with a title the SID (its length, 9)."""

    version = "v"

    def encode(self, items: pa.Table) -> Encoded:
        title = items["title"][0].as_py()
        return Encoded(np.array([[len(title), 9]]), np.array([bool(title)]), np.zeros((1, 1)))


def catalogue() -> pa.Table:
    rows = [
        {"item_id": name, "kind": "ad", "title": name, "ecpm": 1.0, "status": "active"} for name in ("a", "b", "c", "d")
    ]
    table = pa.Table.from_pylist(rows, schema=CATALOGUE_SCHEMA)
    table = table.append_column("sid", pa.array([[1, 1], [2, 2], [3, 3], None], pa.list_(pa.int32())))
    return table.append_column("popularity", pa.array([4, 3, 2, 1], pa.int64()))


def inserted(item_id: str, **values: object) -> AdUpdate:
    item = CatalogueItem(**{"item_id": item_id, "title": f"new {item_id}", "ecpm": 7.0, **values})
    return AdUpdate(operation="insert", item_id=item_id, item=item)


def test_folding_applies_every_update_and_says_how_far_it_went(tmp_path: Path) -> None:
    log = SqliteUpdateLog(tmp_path / "log")
    log.append(
        [
            inserted("a"),
            inserted("n"),
            AdUpdate(operation="update", item_id="n", ecpm=8.0),
            AdUpdate(operation="remove", item_id="b"),
            AdUpdate(operation="pause", item_id="c"),
            AdUpdate(operation="resume", item_id="c"),
            AdUpdate(operation="pause", item_id="nobody"),
            inserted("mute", title=""),
        ]
    )
    table, watermark = fold_updates(catalogue(), log, Encoder())
    rows = {row["item_id"]: row for row in table.to_pylist()}
    assert watermark == 8 and table.schema == catalogue().schema and sorted(rows) == ["a", "b", "c", "d", "n"]
    assert (rows["a"]["title"], rows["a"]["sid"], rows["a"]["ecpm"], rows["a"]["popularity"]) == (
        "new a", [1, 1], 7.0, 4,
    )  # fmt: skip
    assert (rows["n"]["sid"], rows["n"]["ecpm"], rows["n"]["popularity"]) == ([5, 9], 8.0, 0)
    assert [rows[name]["status"] for name in ("a", "b", "c", "n")] == ["active", "paused", "active", "active"]
    assert rows["d"]["sid"] is None


def test_an_empty_log_changes_nothing(tmp_path: Path) -> None:
    table, watermark = fold_updates(catalogue(), SqliteUpdateLog(tmp_path / "log"), Encoder())
    assert watermark == 0 and table.equals(catalogue())


def test_the_log_is_in_one_place() -> None:
    assert open_log(UpdatesConfig()) is None
    with pytest.raises(UserError, match="not both"):
        UpdatesConfig.parse({"path": "x", "redis_url": "redis://127.0.0.1"})


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis"), free_port(), "--appendonly", "yes") as url:
        yield url


def test_the_log_in_redis_keeps_order_and_numbers(redis_url: str) -> None:
    log = opened(redis_url)
    assert log.last() == 0 and log.read(0) == []
    assert log.append([inserted("a"), AdUpdate(operation="pause", item_id="a")]) == 2
    assert opened(redis_url).append([AdUpdate(operation="remove", item_id="a")]) == 3
    page = log.read(1)
    assert [(entry.number, entry.update.operation) for entry in page] == [(2, "pause"), (3, "remove")]
    assert log.read(0, limit=1)[0].update.item == CatalogueItem(item_id="a", title="new a", ecpm=7.0)
    log.drop(2)
    assert [entry.number for entry in log.read(2)] == [3]
    with pytest.raises(UserError, match="no longer holds the updates 1 to 2"):
        log.read(0)
    with pytest.raises(UserError, match="ends at 3, before the watermark 9"):
        log.read(9)
    log.drop(3)
    assert log.last() == 3 and log.append([AdUpdate(operation="remove", item_id="b")]) == 4


def test_a_redis_that_does_not_answer_is_named() -> None:
    with pytest.raises(UserError, match=r"redis://127\.0\.0\.1:1/0 does not answer"):
        opened("redis://127.0.0.1:1/0")


def opened(url: str) -> UpdateLog:
    log = open_log(UpdatesConfig(redis_url=url))
    assert log is not None
    return log
