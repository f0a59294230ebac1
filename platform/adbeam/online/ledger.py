"""The ledger: which log file belongs to which round, and how far each round has come. One SQLite file.

A file is claimed by exactly one round, in one transaction with the round's beginning; a round goes on from the stage
that the ledger names. So a loop that is killed anywhere finishes the round it was in, over the same inputs.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.serving.events.retention import READ_FILES, locked
from adbeam.sqlite_wal import enter_wal
from adbeam.workdir import LEDGER

BUSY_SECONDS = 30.0
STAGES = ("join", "rows", "lists", "train", "gate", "publish", "done")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rounds (number INTEGER PRIMARY KEY, stage TEXT NOT NULL, verdict TEXT, reason TEXT);
"""


@dataclass(frozen=True)
class Round:
    """One line of the ledger."""

    number: int
    stage: str
    verdict: str | None
    reason: str | None


class Ledger:
    """Written by one loop at a time (rounds.run_rounds holds a lock); others may read."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._db = sqlite3.connect(folder / LEDGER, timeout=BUSY_SECONDS, isolation_level=None)
        enter_wal(self._db, BUSY_SECONDS)
        self._db.executescript(_SCHEMA + READ_FILES)

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def open_round(self) -> Round | None:
        """The round that is not done, if there is one."""
        found = self.rounds("stage != 'done'")
        return found[-1] if found else None

    def rounds(self, where: str = "1") -> list[Round]:
        """Rounds in their order."""
        rows = self._db.execute(f"SELECT number, stage, verdict, reason FROM rounds WHERE {where} ORDER BY number")
        return [Round(*row) for row in rows]

    def files(self, number: int | None = None) -> list[tuple[str, str, int]]:
        """(name, kind, rows) of the files of one round, or of all."""
        where, values = ("", ()) if number is None else ("WHERE round = ?", (number,))
        return list(self._db.execute(f"SELECT name, kind, rows FROM files {where} ORDER BY name", values))

    def claim(self, folders: dict[str, Path]) -> Round | None:
        """Begin a round over every whole file that no round has; None when there is none.

        `folders` maps a kind ("events", "requests") to its folder. The files are linked into the round's own folder
        first, since a log removes those that are read; a file that cannot be read whole is left for a later round.
        """
        with ExitStack() as held:
            for folder in {*folders.values()}:  # so that what is counted as removed unread was not read
                held.enter_context(locked(folder))
            return self._claim(folders)

    def _claim(self, folders: dict[str, Path]) -> Round | None:
        known = {name for name, _, _ in self.files()}
        number = (self.rounds() or [Round(0, "done", None, None)])[-1].number + 1
        inputs = self.inputs(number)
        shutil.rmtree(inputs, ignore_errors=True)
        found: list[tuple[str, str, int]] = []
        for kind, folder in folders.items():
            for path in sorted(folder.glob("*.parquet")) if folder.is_dir() else []:
                if path.name in known or path.name.startswith("."):
                    continue
                rows = _whole_rows(path)
                if rows is not None:
                    (inputs / kind).mkdir(parents=True, exist_ok=True)
                    _link(path, inputs / kind / path.name)
                    found.append((path.name, kind, rows))
        if not found:
            return None
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute("INSERT INTO rounds VALUES (?, ?, NULL, NULL)", (number, STAGES[0]))
            self._db.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", [(*file, number) for file in found])
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        return Round(number, STAGES[0], None, None)

    def advance(self, number: int, stage: str, verdict: str | None = None, reason: str | None = None) -> Round:
        """Write down that a round has reached `stage`."""
        self._db.execute(
            "UPDATE rounds SET stage = ?, verdict = coalesce(?, verdict), reason = coalesce(?, reason) "
            "WHERE number = ?",
            (stage, verdict, reason, number),
        )
        return self.rounds(f"number = {number}")[0]

    def round_folder(self, number: int) -> Path:
        """Where a round keeps what its stages make."""
        return self.folder / "rounds" / f"{number:05d}"

    def inputs(self, number: int) -> Path:
        """Where a round keeps its input files, by kind."""
        return self.folder / "inputs" / f"{number:05d}"

    def clean(self, keep_rounds: int) -> Sequence[int]:
        """Remove inputs of finished rounds, and the folders of those but the newest; returns the latter."""
        done = [item.number for item in self.rounds("stage = 'done'")]
        for number in done:
            shutil.rmtree(self.inputs(number), ignore_errors=True)
        for number in done[:-keep_rounds]:
            shutil.rmtree(self.round_folder(number), ignore_errors=True)
        return done[:-keep_rounds]


def _whole_rows(path: Path) -> int | None:
    """Rows of a Parquet file; None while it is being written, or where it is broken."""
    try:
        return int(pq.ParquetFile(path).metadata.num_rows)
    except (OSError, pa.ArrowException):
        return None


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
