"""Which files a log keeps: what nobody has read, whoever writes; what goes unread is counted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adbeam.online.ledger import Ledger
from adbeam.serving.events.retention import removed_unread, retain

ENOUGH = 1 << 40


def files(folder: Path, numbers: range, rows: int = 7) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        pq.write_table(pa.table({"n": list(range(rows))}), folder / f"events-{number:03d}-x.parquet")


def names(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("events-*.parquet"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files(tmp_path / "events", range(12))
    return tmp_path / "events"


def test_nothing_unread_goes_by_number(folder: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "online" / "ledger.sqlite"
    for known in (None, ledger):
        assert retain(folder, "events", ENOUGH, 2, known) == 0
    assert names(folder) == list(range(12))


def test_read_files_go_but_the_newest_of_them(folder: Path, tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "online")) as ledger:
        assert ledger.claim({"events": folder}) is not None
        files(folder, range(12, 20))
        assert retain(folder, "events", ENOUGH, 3, tmp_path / "online" / "ledger.sqlite") == 0
    assert names(folder) == [9, 10, 11, *range(12, 20)]
    assert removed_unread(folder) == 0


def test_beyond_the_bound_read_files_go_first_and_unread_rows_are_counted(folder: Path, tmp_path: Path) -> None:
    size = next(folder.glob("*.parquet")).stat().st_size
    ledger_file = tmp_path / "online" / "ledger.sqlite"
    with closing(Ledger(tmp_path / "online")) as ledger:
        ledger.claim({"events": folder})
    files(folder, range(12, 20))
    assert retain(folder, "events", 8 * size, 1000, ledger_file) == 0
    assert names(folder) == list(range(12, 20))
    assert retain(folder, "events", 5 * size, 1000, ledger_file) == 3 * 7
    assert names(folder) == list(range(15, 20)) and removed_unread(folder) == 21
    with (folder / ".removed_unread.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"file": "events-')  # a process died there
    assert removed_unread(folder) == 21


def test_a_file_whose_journal_is_still_there_stays(folder: Path) -> None:
    (folder / ".events-000-x.journal").write_bytes(b"")
    assert retain(folder, "events", 1, 1, None) == 11 * 7
    assert names(folder) == [0]
