"""A log and catalogue of one's own, in Parquet, CSV or JSON Lines."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from adbeam.identity.people import NOBODY_WORDS
from adbeam.logs.catalogue import OPTIONAL, QUARANTINE_FILE, REQUIRED, feature_schema, read_catalogue, write_catalogue
from adbeam.logs.config import LogsConfig
from adbeam.logs.reading import Chunk, Listing, list_table, read_chunks
from adbeam.logs.sources.base import CATALOGUE_FILE, Impressions
from adbeam.logs.sources.from_log import items_of_log
from adbeam.logs.told.columns import kinds_of, with_columns
from adbeam.logs.told.items import with_item_columns
from adbeam.logs.users.table import UsersTable
from adbeam.records import EVENT_SCHEMA
from adbeam.targeting.features import Features

REQUIRED_EVENT = ("user_id", "timestamp", "item_id", "action")
OPTIONAL_EVENT = tuple(name for name in EVENT_SCHEMA.names if name not in REQUIRED_EVENT)


class FilesSource:
    """Reads what `logs.files` names."""

    tells_time = True

    def __init__(self, config: LogsConfig, features_told: Features | None = None) -> None:
        assert config.files is not None
        self._config, self._batch_rows, self._told = config.files, config.batch_rows, features_told
        self._items = config.files.catalogue and with_item_columns(config.files.catalogue, features_told)
        self._max_quarantined = config.max_quarantined
        self._table = with_columns(config.files.events, features_told, "request", EVENT_SCHEMA.names)
        self.features, self.told = feature_schema(self._table), kinds_of(features_told, "request")
        self.timestamp_unit: str = config.files.events.timestamp_unit
        self.impression_weight = config.files.impression_weight
        self.impressions: Impressions = "weighted" if self.impression_weight else config.files.impressions
        self.timezone = config.files.events.timezone
        words = config.files.nobody_words
        self.nobody_words: Collection[str] = NOBODY_WORDS if words is None else words

    @cached_property
    def _events(self) -> Listing:
        required: tuple[str, ...] = REQUIRED_EVENT
        optional: tuple[str, ...] = OPTIONAL_EVENT
        if self._config.events.actions:  # the row itself need be no event
            required = tuple(name for name in required if name != "action")
            optional = (*optional, "action")
        return list_table(self._table, "logs.files.events", required, optional)

    @cached_property
    def _catalogue(self) -> Listing:
        if self._items is None:
            return Listing((), ())
        return list_table(self._items, "logs.files.catalogue", REQUIRED, OPTIONAL)

    @cached_property
    def _users(self) -> UsersTable | None:
        table, most_bad = self._config.users, self._max_quarantined
        if table is None:
            return None
        return UsersTable.of(table, self._told, self.nobody_words, self._batch_rows, most_bad)

    def check(self) -> list[Path]:
        users = self._users.files() if self._users else []
        return [*self._events.files, *self._catalogue.files, *users]

    def stage(self, folder: Path) -> dict[str, Any]:
        staged = self._stage_items(folder)
        if self._users:
            staged["source"] |= self._users.stage(folder)
        return staged

    def _stage_items(self, folder: Path) -> dict[str, Any]:
        if self._items is None:
            return self._stage_own_items(folder)
        items, quarantine, account = read_catalogue(self._items, "logs.files.catalogue", self._batch_rows, self._told)
        write_catalogue(items, folder / CATALOGUE_FILE)
        if quarantine.num_rows:
            pq.write_table(quarantine, folder / QUARANTINE_FILE)
        return {"catalogue": account, "source": self._events.notes() | self._catalogue.notes()}

    def _stage_own_items(self, folder: Path) -> dict[str, Any]:
        """The catalogue of what the log itself names."""
        latest_ms = time.time_ns() // 1_000_000
        fragments = self._events.fragments
        items = items_of_log(fragments, self._table, self._batch_rows, latest_ms, self.nobody_words, self.told)
        write_catalogue(items, folder / CATALOGUE_FILE)
        return {
            "catalogue": {"rows_in": items.num_rows, "kept": items.num_rows},
            "source": self._events.notes() | {"items of the log itself": items.num_rows},
        }

    def shares(self) -> int:
        return len(self._events.fragments)

    def read(self, share: int, folder: Path) -> Iterator[Chunk]:
        return read_chunks(self._events.fragments[share], self._table, self._batch_rows, self.nobody_words)
