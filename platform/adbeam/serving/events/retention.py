"""Which files of a log are kept: those that the online loop has not read, as long as the bound on bytes allows.

The loop's ledger (online/ledger.py) says what is read; without one nothing counts as read. Where files are removed
unread, their rows are counted in a file beside them, which outlives every process. One process of a node looks through
a folder at a time, and none while the loop claims files there.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.serving.events.journal import SUFFIX

logger = logging.getLogger(__name__)

LOCK, REMOVED = ".lock", ".removed_unread.jsonl"
READ_FILES = """
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, kind TEXT NOT NULL, rows INTEGER NOT NULL,
                                  round INTEGER NOT NULL REFERENCES rounds);
"""
"""The ledger's table of the files that rounds have read."""


def retain(folder: Path, prefix: str, max_bytes: int, max_files: int, ledger: Path | None) -> int:
    """Remove read files beyond `max_files` and, beyond `max_bytes` of all files of `prefix`, the oldest read ones and
    then the oldest unread ones; returns how many rows nobody has read. Raises OSError."""
    with locked(folder):
        files = sorted(folder.glob(f"{prefix}-*.parquet"))
        begun = {path.name.removeprefix(".").removesuffix(SUFFIX) for path in folder.glob(f".{prefix}-*{SUFFIX}")}
        sizes = {path: path.stat().st_size for path in files}
        total = sum(sizes.values()) + sum(_size(folder / f".{source}{SUFFIX}") for source in begun)
        files = [path for path in files if path.stem not in begun]
        known = read_files(ledger) if files else frozenset()
        read = [path for path in files if path.name in known]
        surplus = read[: max(0, len(read) - max_files)]
        unread = [path for path in files if path.name not in known]
        lost = 0
        for path in [*read, *unread]:
            if path not in surplus and total <= max_bytes:
                continue
            if path.name not in known:
                lost += _count_removed(folder, path)
            path.unlink(missing_ok=True)
            total -= sizes[path]
    if lost:
        logger.error("%d rows in %s were removed before they were read: its files exceed %d bytes", lost, folder,
                     max_bytes)  # fmt: skip
    return lost


def removed_unread(folder: Path) -> int:
    """Rows that were removed from `folder` before they were read, ever."""
    try:
        lines = (folder / REMOVED).read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    removed: dict[str, int] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # a process died while it wrote
            continue
        removed[entry["file"]] = entry["rows"]
    return sum(removed.values())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's files as they are, where it can be written at all."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:  # nobody removes anything there either
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_files(ledger: Path | None) -> frozenset[str]:
    """Names of the files that rounds of this ledger have read; none where it cannot be asked."""
    if ledger is None or not ledger.is_file():
        return frozenset()
    try:
        with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", timeout=5.0, uri=True)) as db:
            return frozenset(name for (name,) in db.execute("SELECT name FROM files"))
    except sqlite3.DatabaseError as error:
        logger.warning("%s does not tell what is read: %s", ledger, error)
        return frozenset()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _count_removed(folder: Path, path: Path) -> int:
    """Write down, before it goes, what is removed unread; a name counts once however often it is written."""
    try:
        rows = int(pq.ParquetFile(path).metadata.num_rows)
    except (OSError, pa.ArrowException):
        return 0
    entry = {"file": path.name, "rows": rows, "at_ms": int(time.time() * 1000)}
    with (folder / REMOVED).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
    return rows
