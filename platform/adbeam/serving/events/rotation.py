"""What both logs have in common: a folder of Parquet files, a thread that rotates them, pseudonyms of users.

A file appears under its final name only when whole and on the disk. User ids are replaced by a keyed hash.

A row waits as a line of JSON and Arrow reads them all at once: neither the interpreter's garbage collector nor its lock
is held up by them. As mappings, twenty thousand rows stopped the event loop for some hundred milliseconds.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.pseudonyms import pseudonym, user_key
from adbeam.serving.config import EventLogConfig
from adbeam.serving.events.journal import sync_folder
from adbeam.serving.events.retention import retain

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class RotatingLog:
    """Writes files from a thread of its own; what is due, and what a turn does, is each log's."""

    prefix: str
    schema: pa.Schema

    def __init__(self, config: EventLogConfig, key_folder: Path | None = None) -> None:
        """`key_folder` holds the secret where the environment has none; logs that are joined share it."""
        assert config.folder is not None
        self.config, self.folder = config, config.folder
        self.dropped = 0
        key_folder = key_folder or self.folder
        try:
            for folder in (self.folder, key_folder):
                folder.mkdir(parents=True, exist_ok=True)
            self._key = user_key(key_folder, config.key_env)
        except OSError as error:
            name = "request_log.folder" if self.prefix == "requests" else "event_log.folder"
            remedy = "name a folder that this process may write, with room on its disk"
            raise UserError(
                f"the folder of the log cannot be used: {error}", field=name, value=str(self.folder), remedy=remedy
            ) from None
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._rotate_until_closed, name=f"{self.prefix}-log", daemon=True)
        self._thread.start()

    def user_hash(self, user_id: str) -> str:
        """The pseudonym that stands for a user in the log."""
        return pseudonym(self._key, user_id)

    def close(self) -> None:
        """Write what is left and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=30)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _is_due(self) -> bool:
        raise NotImplementedError

    def _turn(self) -> bool:
        """Write what waits; False where the disk refuses it."""
        raise NotImplementedError

    def _rotate_until_closed(self) -> None:
        while True:
            with self._changed:
                closing = self._closing
            done = self._turn()
            if closing:
                return
            if not done:
                time.sleep(RETRY_SECONDS)
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._is_due(), timeout=self.config.rotate_seconds)

    def _write(self, name: str, lines: Sequence[bytes]) -> None:
        """Publish lines as NAME.parquet; raises OSError or pyarrow.ArrowException."""
        partial = self.folder / f".{name}.parquet.partial"
        try:
            pq.write_table(table_of(lines, self.schema), partial, compression="zstd")
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(partial, self.folder / f"{name}.parquet")
            sync_folder(self.folder)
        except (OSError, pa.ArrowException):
            logger.exception("the log cannot write %s; %d rows wait", self.folder / name, len(lines))
            partial.unlink(missing_ok=True)
            raise

    def _retain(self) -> None:
        config = self.config
        try:
            self.dropped += retain(self.folder, self.prefix, config.max_bytes, config.max_files, config.ledger)
        except OSError:
            logger.exception("old files in %s cannot be removed", self.folder)


def table_of(lines: Sequence[bytes], schema: pa.Schema) -> pa.Table:
    """JSON lines as a table of `schema`; fields that it lacks are left out."""
    data = b"\n".join(lines)
    parsing = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    reading = pa_json.ReadOptions(use_threads=False, block_size=max(1, len(data)))
    return pa_json.read_json(pa.BufferReader(data), reading, parsing).select(schema.names).cast(schema)
