"""One user a line: `user item item ...`, oldest first, as the public sequential-recommendation benchmarks come.

There are no times, so an item's place in its line (0, 1, ...) stands for its timestamp; every item is a conversion in
a request of its own.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.logs.catalogue import OPTIONAL, QUARANTINE_FILE, REQUIRED, read_catalogue, validate_items, write_catalogue
from adbeam.logs.config import LogsConfig
from adbeam.logs.reading import Chunk, list_fragments, unreadable
from adbeam.logs.sources.base import CATALOGUE_FILE, Impressions
from adbeam.logs.tables.discovery import list_files
from adbeam.logs.told.columns import kinds_of
from adbeam.logs.told.items import with_item_columns
from adbeam.targeting.features import Features

_LINES = 8192


class SequenceFileSource:
    """Reads what `logs.sequences` names."""

    features = pa.schema([])
    timestamp_unit = "ms"
    impressions: Impressions = "none"
    impression_weight: str | None = None
    tells_time = False
    timezone = None
    nobody_words = ()  # a line is a user, whatever the name

    def __init__(self, config: LogsConfig, features_told: Features | None = None) -> None:
        assert config.sequences is not None
        self.told = kinds_of(features_told, "request")
        self._config, self._batch_rows, self._told = config.sequences, config.batch_rows, features_told
        self._items = config.sequences.items and with_item_columns(config.sequences.items, features_told)

    def check(self) -> list[Path]:
        path = Path(self._config.path)
        if not path.is_file():
            raise UserError("no such file", field="logs.sequences.path", value=str(path), remedy="check the path")
        if self._items is None:
            return [path]
        list_fragments(self._items, "logs.sequences.items", REQUIRED, OPTIONAL)
        return [path, *list_files(self._items, "logs.sequences.items")]

    def stage(self, folder: Path) -> dict[str, Any]:
        if self._items is None:
            items, _ = validate_items(pa.table({"item_id": self._distinct_items()}), pa.schema([]))
            if not items.num_rows:
                raise UserError("the log is empty", field="logs.sequences.path", value=self._config.path)
            account: dict[str, Any] = {"rows_in": items.num_rows, "kept": items.num_rows}
        else:
            items, quarantine, account = read_catalogue(
                self._items, "logs.sequences.items", self._batch_rows, self._told
            )
            if quarantine.num_rows:
                pq.write_table(quarantine, folder / QUARANTINE_FILE)
        write_catalogue(items, folder / CATALOGUE_FILE)
        return {"catalogue": account, "source": {}}

    def shares(self) -> int:
        return 1

    def read(self, share: int, folder: Path) -> Iterator[Chunk]:
        for users, lengths, items in self._blocks():
            yield Chunk(self._to_events(users, lengths, items))

    def _to_events(self, users: list[str], lengths: np.ndarray, items: pa.Array) -> pa.Table:
        user = pa.array(users, pa.string()).take(pa.array(np.repeat(np.arange(len(users)), lengths)))
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        place = pa.array(np.arange(len(items)) - starts)
        event = pc.binary_join_element_wise(user, place.cast(pa.string()), "-")
        constant = {"action": "conversion", "scene": self._config.scene}
        columns: dict[str, Any] = {"event_id": event, "request_id": event, "user_id": user, "timestamp": place}
        columns |= {"item_id": items} | {name: pa.repeat(value, len(items)) for name, value in constant.items()}
        return pa.table(columns)

    def _distinct_items(self) -> pa.Array:
        seen = pa.array([], pa.string())
        for _, _, items in self._blocks():
            seen = pc.unique(pa.concat_arrays([seen, items.drop_null()]))
        return seen

    def _read_of(self, words: list[str]) -> list[str]:
        """The words of a line that count: none where `without_last` leaves no item of it."""
        left_out = self._config.without_last
        if not left_out or len(words) < 2:
            return words
        return words[:-left_out] if len(words) - 1 > left_out else []

    def _blocks(self) -> Iterator[tuple[list[str], np.ndarray, pa.Array]]:
        """(users, rows of each, all their items) of some thousand lines; a user without items has one null."""
        try:
            with _open(self._config.path) as lines:
                while block := list(islice(lines, _LINES)):
                    rows = [self._read_of(words) for words in map(str.split, block)]
                    rows = [words for words in rows if words]
                    users = [words[0] for words in rows]
                    items = [item for words in rows for item in (words[1:] or (None,))]
                    lengths = np.array([max(1, len(words) - 1) for words in rows], dtype=np.int64)
                    yield users, lengths, pa.array(items, pa.string())
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise unreadable(self._config.path, "text", error) from None


def _open(path: str) -> TextIO:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")
