"""What the readers of all formats hand on: shares of a table, rows as read, the error of a file that is no table."""

from __future__ import annotations

import csv
import zlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from adbeam.errors import UserError

DAMAGE = (pa.ArrowException, OSError, EOFError, UnicodeError, zlib.error, csv.Error, MemoryError, OverflowError)
"""What libraries raise over a file that is cut off, damaged inside, or of another kind than its name says."""


@dataclass(frozen=True)
class Fragment:
    """One task's share of a table: a whole text file, or some row groups of a Parquet file."""

    path: str
    format: str
    row_groups: tuple[int, ...] = ()
    delimiter: str = ","
    decimal: str = "."


@dataclass(frozen=True)
class Chunk:
    """Rows as read, and (reason, text) of lines that are no rows. `notes` are counts for the account. Where rows carry
    several actions, `more_events` stand in `table` beside one of each row, and `without_event` rows give none."""

    table: pa.Table
    malformed: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, int], ...] = ()
    more_events: int = 0
    without_event: int = 0

    @property
    def rows_in(self) -> int:
        """Rows of the file that went into it."""
        rows: int = self.table.num_rows
        return rows + len(self.malformed) - self.more_events + self.without_event


def unreadable(path: str | Path, kind: str, error: BaseException) -> UserError:
    """The error for a file that is truncated or of another kind."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{path} cannot be read as {kind}: {reason}", remedy="it may be truncated: write it again")
