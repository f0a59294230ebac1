"""The stores under test: every test that takes `open_one` holds for SQLite and for a real redis-server alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.redis_server import free_port, redis_server
from tests.support.samples import write_sample_prepared
from tests.support.serving.store_events import Open

from adbeam.serving.config import StoreConfig
from adbeam.serving.stores.load import open_store
from adbeam.serving.stores.store import HistoryStore


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis"), free_port()) as url:
        yield url


@pytest.fixture(params=["sqlite", "redis", "two redis"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again and again."""
    settings: dict[str, object] = {"path": tmp_path / "h.sqlite"}
    if request.param != "sqlite":
        url = request.getfixturevalue("redis_url")
        urls = [f"{url}/{database}" for database in range(1 + (request.param == "two redis"))]
        settings = {"backend": "redis", "redis": {"urls": urls, "key_prefix": tmp_path.name, "read_timeout_ms": 2000}}
    opened: list[HistoryStore] = []

    def open_again(**more: object) -> HistoryStore:
        opened.append(open_store(StoreConfig.parse({**settings, **more})))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_prepared(tmp_path_factory.mktemp("log"), users=12, items=40, visits=8).folder
