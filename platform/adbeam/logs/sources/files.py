"""A log and catalogue of one's own, in Parquet, CSV or JSON Lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from adbeam.identity.people import NOBODY_WORDS
from adbeam.logs.catalogue import OPTIONAL, QUARANTINE_FILE, REQUIRED, feature_schema, read_catalogue, write_catalogue
from adbeam.logs.config import LogsConfig
from adbeam.logs.reading import Chunk, Fragment, empty_files, list_fragments, read_chunks
from adbeam.logs.sources.base import CATALOGUE_FILE, Impressions
from adbeam.logs.tables.discovery import list_files
from adbeam.records import EVENT_SCHEMA

REQUIRED_EVENT = ("user_id", "timestamp", "item_id", "action")
OPTIONAL_EVENT = tuple(name for name in EVENT_SCHEMA.names if name not in REQUIRED_EVENT)

_NAMED_AT_MOST = 10
"""Empty files that the account names."""


class FilesSource:
    """Reads what `logs.files` names."""

    def __init__(self, config: LogsConfig) -> None:
        assert config.files is not None
        self._config, self._batch_rows = config.files, config.batch_rows
        self.features = feature_schema(config.files.events)
        self.timestamp_unit: str = config.files.events.timestamp_unit
        self.impression_weight = config.files.impression_weight
        self.impressions: Impressions = "weighted" if self.impression_weight else config.files.impressions
        self.timezone = config.files.events.timezone
        words = config.files.nobody_words
        self.nobody_words: Collection[str] = NOBODY_WORDS if words is None else words

    @cached_property
    def _fragments(self) -> list[Fragment]:
        return list_fragments(self._config.events, "logs.files.events", REQUIRED_EVENT, OPTIONAL_EVENT)

    def check(self) -> list[Path]:
        list_fragments(self._config.catalogue, "logs.files.catalogue", REQUIRED, OPTIONAL)
        self.shares()
        events = list_files(self._config.events, "logs.files.events")
        return [*events, *list_files(self._config.catalogue, "logs.files.catalogue")]

    def stage(self, folder: Path) -> dict[str, Any]:
        items, quarantine, account = read_catalogue(self._config.catalogue, "logs.files.catalogue", self._batch_rows)
        write_catalogue(items, folder / CATALOGUE_FILE)
        if quarantine.num_rows:
            pq.write_table(quarantine, folder / QUARANTINE_FILE)
        return {"catalogue": account, "source": self._passed_over()}

    def _passed_over(self) -> dict[str, int]:
        """Empty files for the account, the first of them by name; nothing where there are none."""
        tables = {"logs.files.events": self._config.events, "logs.files.catalogue": self._config.catalogue}
        empty = [path for field, table in tables.items() for path in empty_files(table, field)]
        named = {f"empty file {path}": 1 for path in empty[:_NAMED_AT_MOST]}
        return named | ({"more empty files": len(empty) - _NAMED_AT_MOST} if len(empty) > _NAMED_AT_MOST else {})

    def shares(self) -> int:
        return len(self._fragments)

    def read(self, share: int, folder: Path) -> Iterator[Chunk]:
        return read_chunks(self._fragments[share], self._config.events, self._batch_rows)
