"""A log source: text files with `time user item action price` a line, and a catalogue with `item title` a line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from adbeam.errors import UserError
from adbeam.logs.catalogue import validate_items, write_catalogue
from adbeam.logs.config import LogsConfig
from adbeam.logs.reading import Chunk
from adbeam.logs.sources.base import CATALOGUE_FILE


class LinesSource:
    """Reads `options.events` (one share each) and `options.items`."""

    features = pa.schema([])  # columns beside the Event contract
    timestamp_unit = "s"
    impressions = "none"
    impression_weight = None
    tells_time = True
    timezone = None  # UTC
    nobody_words = ("guest",)

    def __init__(self, config: LogsConfig, features_told: object = None) -> None:
        self.told: dict[str, Any] = {}
        self._events = [Path(path) for path in config.options.get("events", [])]
        self._items = Path(config.options.get("items", ""))

    def check(self) -> list[Path]:
        """The files, which decide whether a prepared folder is current."""
        files = [*self._events, self._items]
        for path in files:
            if not path.is_file():
                raise UserError("no such file", field="logs.options", value=str(path), remedy="check the path")
        return files

    def stage(self, folder: Path) -> dict[str, Any]:
        """Write the catalogue."""
        rows = [line.rstrip("\n").split("\t") for line in self._items.open(encoding="utf-8")]
        raw = pa.table({"item_id": [row[0] for row in rows], "title": [row[1] for row in rows]})
        items, bad = validate_items(raw, pa.schema([]))
        write_catalogue(items, folder / CATALOGUE_FILE)
        account = {"rows_in": len(rows), "kept": items.num_rows, "quarantined": bad.num_rows}
        return {"catalogue": account, "source": {}}

    def shares(self) -> int:
        """One task a file."""
        return len(self._events)

    def read(self, share: int, folder: Path) -> Iterator[Chunk]:
        """The rows of one file under the contract's names; bad ones are quarantined by whoever asks."""
        path = self._events[share]
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        ids = [f"{path.stem}-{number}" for number in range(len(rows))]
        columns = {name: [row[place] for row in rows] for place, name in enumerate(("timestamp", "user_id", "item_id"))}
        prices = [row[4] or None for row in rows]
        more = {"action": [row[3] for row in rows], "price": prices, "scene": ["list"] * len(rows)}
        yield Chunk(pa.table({"event_id": ids, "request_id": ids, **columns, **more}))
