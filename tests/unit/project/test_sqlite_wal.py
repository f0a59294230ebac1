"""Files that several processes open at once, new: nobody hears that the database is locked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from adbeam.catalogue.updates import SqliteUpdateLog
from adbeam.serving.stores.sqlite import SqliteStore


@pytest.mark.parametrize("open_one", [SqliteStore, SqliteUpdateLog])
def test_a_new_file_that_many_open_at_once_is_opened_by_all(open_one: Callable[[Path], object], tmp_path: Path) -> None:
    failures: list[Exception] = []

    def open_it(place: Path, together: threading.Barrier) -> None:
        together.wait()
        try:
            open_one(place / "file.sqlite")
        except Exception as error:
            failures.append(error)

    for number in range(30):
        together = threading.Barrier(6)
        threads = [threading.Thread(target=open_it, args=(tmp_path / str(number), together)) for _ in range(6)]
        (tmp_path / str(number)).mkdir()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
