"""Accepted events and answered requests as Parquet, ready to be read back as an ad log and joined.

Rows wait in memory until a file is due; a file appears under its final name only when whole. Rows of at most
`rotate_seconds` are lost when a process is killed (the history store has them). User ids are replaced by a keyed hash.

A row waits as a line of JSON and Arrow reads them all at once: neither the interpreter's garbage collector nor its lock
is held up by them. As mappings, twenty thousand rows stopped the event loop for some hundred milliseconds.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from pydantic_core import to_json

from adbeam.declared.encoder import ToldCodes
from adbeam.pseudonyms import pseudonym, user_key
from adbeam.records import EVENT_SCHEMA, REQUEST_SCHEMA, TOLD, TOLD_BY, TOLD_SCHEMA, Event
from adbeam.serving.config import EventLogConfig

logger = logging.getLogger(__name__)

BUFFERED_FILES = 8
"""Rows beyond this many files' worth are dropped while the disk refuses writes."""


class RotatingLog:
    """Appends rows and rotates files from a thread of its own."""

    prefix: str
    schema: pa.Schema

    def __init__(self, config: EventLogConfig, key_folder: Path | None = None) -> None:
        """`key_folder` holds the secret where the environment has none; logs that are joined share it."""
        assert config.folder is not None
        self.config, self.folder = config, config.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dropped = 0
        key_folder = key_folder or self.folder
        key_folder.mkdir(parents=True, exist_ok=True)
        self._key = user_key(key_folder, config.key_env)
        self._rows: list[bytes] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._rotate_until_closed, name="event-log", daemon=True)
        self._thread.start()

    def _put(self, rows: list[dict[str, Any]]) -> None:
        """Queue rows for the next file; never waits for the disk."""
        lines = [to_json(row, inf_nan_mode="null") for row in rows]
        with self._changed:
            room = self.config.rotate_rows * BUFFERED_FILES - len(self._rows)
            self.dropped += max(0, len(lines) - room)
            self._rows.extend(lines[: max(0, room)])
            if len(self._rows) >= self.config.rotate_rows:
                self._changed.notify()

    def user_hash(self, user_id: str) -> str:
        """The pseudonym that stands for a user in the log."""
        return pseudonym(self._key, user_id)

    def close(self) -> None:
        """Write what is left and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=30)

    def _rotate_until_closed(self) -> None:
        while not self._closing:
            with self._changed:
                self._changed.wait_for(self._is_due, timeout=self.config.rotate_seconds)
                rows, self._rows = self._rows, []
            if rows and not self._write(rows):
                with self._changed:
                    self._rows = rows + self._rows
                time.sleep(1.0)

    def _is_due(self) -> bool:
        return self._closing or len(self._rows) >= self.config.rotate_rows

    def _write(self, lines: list[bytes]) -> bool:
        name = f"{self.prefix}-{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet"
        partial = self.folder / f".{name}.partial"
        try:
            pq.write_table(table_of(lines, self.schema), partial, compression="zstd")
            os.replace(partial, self.folder / name)
            self._remove_oldest()
            return True
        except (OSError, pa.ArrowException):
            logger.exception("the log cannot write %s; %d rows wait", self.folder / name, len(lines))
            partial.unlink(missing_ok=True)
            return False

    def _remove_oldest(self) -> None:
        files = sorted(self.folder.glob(f"{self.prefix}-*.parquet"))
        for path in files[: max(0, len(files) - self.config.max_files)]:
            path.unlink(missing_ok=True)


class EventLog(RotatingLog):
    """Accepted events."""

    prefix, schema = "events", EVENT_SCHEMA

    def append(self, events: Sequence[Event]) -> None:
        """Queue events for the next file; never waits for the disk."""
        columns = set(EVENT_SCHEMA.names)  # no signal of a person is logged
        rows = [(event.model_dump(include=columns), self.user_hash(event.user_id)) for event in events]
        self._put([{**row, "user_id": user_hash} for row, user_hash in rows])


class RequestLog(RotatingLog):
    """Answered requests (REQUEST_SCHEMA), which feedback is later joined to."""

    prefix, schema = "requests", REQUEST_SCHEMA

    def __init__(self, config: EventLogConfig, key_folder: Path | None = None, is_told: bool = False) -> None:
        """`is_told` where the model is told declared features: TOLD_SCHEMA stands behind the other columns."""
        if is_told:
            self.schema = pa.schema([*REQUEST_SCHEMA, *TOLD_SCHEMA])
        super().__init__(config, key_folder)

    def append(
        self, user_id: str | None, timestamp: int, scene: str, body: Mapping[str, Any], told: ToldCodes | None = None
    ) -> None:
        """Queue one answer, as its body tells it, and what the model was told; never waits for the disk."""
        ads, served = body["ads"], body["served"]
        row = {
            "request_id": body["request_id"],
            "user_id": None if user_id is None else self.user_hash(user_id),
            "timestamp": timestamp,
            "scene": scene,
            "model_version": served["model_version"],
            "source": served["source"],
            "item_ids": [ad["item_id"] for ad in ads],
            "sids": [list(ad["sid"]) for ad in ads],
            "log_probabilities": [math.log(ad["probability"]) if ad["probability"] else None for ad in ads],
            "expected_ecpm": [ad["expected_ecpm"] for ad in ads],
        }
        if told is not None:
            row |= {TOLD: told.codes, TOLD_BY: told.by}
        self._put([row])


def table_of(lines: Sequence[bytes], schema: pa.Schema) -> pa.Table:
    """JSON lines as a table of `schema`; fields that it lacks are left out."""
    data = b"\n".join(lines)
    parsing = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    reading = pa_json.ReadOptions(use_threads=False, block_size=max(1, len(data)))
    return pa_json.read_json(pa.BufferReader(data), reading, parsing).select(schema.names).cast(schema)
