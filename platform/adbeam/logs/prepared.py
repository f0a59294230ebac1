"""A prepared log, as every later step opens it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.logs.sources.base import CATALOGUE_FILE
from adbeam.logs.trending import TrendTable
from adbeam.workdir import EVENTS, QUARANTINE, SEQUENCES


@dataclass(frozen=True)
class PreparedLog:
    """A published folder: catalogue, clean events, per-user sequences, quarantine and the account of all rows."""

    folder: Path
    manifest: dict[str, Any]
    account: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = True) -> Self:
        """Open and, unless told not to, check every file's hash; raises UserError naming the file that differs."""
        folder = Path(folder)
        manifest = artifacts.read_manifest(folder, verify=verify)
        account = json.loads((folder / "account.json").read_text(encoding="utf-8"))
        return cls(folder, manifest, account)

    @property
    def fingerprint(self) -> str:
        """Changes whenever the log, the catalogue or the settings they were prepared with change."""
        return str(self.manifest["fingerprint"])

    def catalogue(self) -> pa.Table:
        """All items by item id: CATALOGUE_SCHEMA, then feature columns."""
        return pq.read_table(self.folder / CATALOGUE_FILE)

    def sequences(self) -> list[Path]:
        """Parquet shards of SEQUENCE_SCHEMA, one row a user, each user in one shard."""
        return sorted((self.folder / SEQUENCES).glob("*.parquet"))

    def trends(self) -> TrendTable:
        """Which ads were converting most in the days before every hour of the log."""
        return TrendTable.read(self.folder)

    def events(self) -> list[Path]:
        """Parquet shards of the clean events by user and time: EVENT_SCHEMA, then feature columns."""
        return sorted((self.folder / EVENTS).glob("*.parquet"))

    def quarantine(self) -> pa.Table:
        """The rows refused: `reason`, and `row` as JSON."""
        files = sorted((self.folder / QUARANTINE).glob("*.parquet"))
        empty = pa.table({"reason": pa.array([], pa.string()), "row": pa.array([], pa.string())})
        return pa.concat_tables([pq.read_table(file) for file in files]) if files else empty
