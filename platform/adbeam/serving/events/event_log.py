"""Accepted events and answered requests as Parquet, ready to be read back as an ad log and joined.

Events are acknowledged when two places have them: the history store, and this log's journal, which is on the disk
before the store hears of them. Parquet files are made of journals, never of memory. Whatever ends a process, the next
one that opens the folder makes files of the journals it has left, and asks the store again about batches without an
answer: the store remembers by the batch's name what it said. So an event is in one file once.

Requests wait in memory: those of at most `rotate_seconds` are lost when a process is killed.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic_core import to_json

from adbeam.declared.encoder import ToldCodes
from adbeam.records import EVENT_SCHEMA, REQUEST_SCHEMA, TOLD, TOLD_BY, TOLD_SCHEMA, Event
from adbeam.serving.config import EventLogConfig
from adbeam.serving.events.journal import BATCH, SUFFIX, Journal, OtherFormat, new_source
from adbeam.serving.events.rotation import RotatingLog
from adbeam.serving.stores.store import HistoryStore, RemembersBatches

logger = logging.getLogger(__name__)

BUFFERED_FILES = 8
"""Requests beyond this many files' worth are dropped while the disk refuses writes."""
KNOWN_AS = "known_as"
"""Key of journals for the user id that the store knows; it is in no Parquet file."""


class NotKept(Exception):
    """Events were not taken, and why; they may come again. `operation` is what failed: append (the store) or log."""

    def __init__(self, what: str, operation: str) -> None:
        super().__init__(what)
        self.operation = operation


class EventLog(RotatingLog):
    """Accepted events, and the way of events into the store."""

    prefix, schema = "events", EVENT_SCHEMA

    def __init__(self, config: EventLogConfig, store: HistoryStore) -> None:
        """Takes over journals in `config.folder` whose writers have died."""
        self._store = store
        self._remembers = store if isinstance(store, RemembersBatches) else None
        self._writing = threading.Lock()
        self._journal: Journal | None = None
        self._sealed: list[Journal] = []
        self._left: tuple[Journal, int, Sequence[Event]] | None = None
        super().__init__(config)

    def keep(self, events: Sequence[Event]) -> list[bool]:
        """Write events into the journal, then into the store; for each, whether its id was new. Raises NotKept."""
        payload = b"\n".join(map(self._line, events))
        with self._writing:
            if self._left is not None:  # what the store refused comes first: its fate is open
                self._settle(*self._left)
            try:
                journal, number = self._begin(payload)
            except OSError as error:
                raise NotKept(f"the event log cannot be written ({error.strerror})", "log") from None
            fresh = self._settle(journal, number, events)
        if self._is_due():
            self._wake()
        return fresh

    def _line(self, event: Event) -> bytes:
        row = event.model_dump(include=_COLUMNS)  # no signal of a person is logged
        return to_json({**row, "user_id": self.user_hash(event.user_id), KNOWN_AS: event.user_id})

    def _begin(self, payload: bytes) -> tuple[Journal, int]:
        if self._journal is not None and self._journal.broken:
            self._seal()
        if self._journal is None:
            self._journal = Journal.create(self.folder, self.prefix)
        return self._journal, self._journal.begin(payload)

    def _settle(self, journal: Journal, number: int, events: Sequence[Event]) -> list[bool]:
        try:
            fresh = self._asked(journal.source, number, events)
        except Exception as error:  # not its text: Redis repeats the command there, and users are in it
            self._left = journal, number, events
            logger.error("the history store refused %d events: %s", len(events), type(error).__name__)
            raise NotKept("the history store cannot be written", "append") from None
        self._left = None
        try:
            journal.answer(number, fresh)
        except OSError as error:  # the events are kept: the store is asked again when a file is made of them
            logger.warning("%s takes no answer: %s", journal.path, error)
        return fresh

    def _asked(self, source: str, number: int, events: Sequence[Event]) -> list[bool]:
        if self._remembers is not None:
            return self._remembers.append_once(source, number, events)
        return self._store.append(events)

    def _is_due(self) -> bool:
        journal = self._journal
        return journal is not None and journal.rows >= self.config.rotate_rows

    def _turn(self) -> bool:
        with self._writing:
            if self._left is None or self._closing:
                self._seal()
        made = [self._made_of(journal) for journal in self._all_sealed()]
        self._retain()
        return all(made)

    def _seal(self) -> None:
        if self._journal is not None:
            self._sealed.append(self._journal)
            self._journal = None

    def _all_sealed(self) -> list[Journal]:
        """One's own, and those of processes that have died."""
        with self._writing:
            own = {journal.path for journal in (self._journal, *self._sealed) if journal is not None}
            for path in sorted(self.folder.glob(f".{self.prefix}-*{SUFFIX}")):
                if path not in own and (journal := Journal.claim(path)) is not None:
                    self._sealed.append(journal)
            return list(self._sealed)

    def _made_of(self, journal: Journal) -> bool:
        """Make a file of a journal and remove it; False where that has to wait."""
        try:
            if not (self.folder / f"{journal.source}.parquet").exists():  # else the process died right after
                lines = self._new_lines(journal)
                if lines:
                    self._write(journal.source, lines)
            if self._remembers is not None:
                self._remembers.forget_source(journal.source)
            journal.remove()
        except Exception as error:  # of any store, whose text may name users
            told = str(error) if isinstance(error, OSError | OtherFormat) else type(error).__name__
            logger.error("%s waits: %s", journal.path, told)
            return False
        self._sealed.remove(journal)
        return True

    def _new_lines(self, journal: Journal) -> list[bytes]:
        batches: dict[int, list[bytes]] = {}
        answers: dict[int, Sequence[int]] = {}
        for record in journal.records():
            if record.kind == BATCH:
                batches[record.number] = record.payload.split(b"\n")
            else:
                answers[record.number] = record.payload
        for number in batches.keys() - answers.keys():
            events = [_event(line) for line in batches[number]]
            fresh = self._asked(journal.source, number, events)
            # A store without memory may have taken them before: rather twice in the log than never.
            answers[number] = fresh if self._remembers is not None else [True] * len(events)
        return [
            line
            for number, lines in batches.items()
            for line, is_new in zip(lines, answers[number], strict=True)
            if is_new
        ]


class RequestLog(RotatingLog):
    """Answered requests (REQUEST_SCHEMA), which feedback is later joined to."""

    prefix, schema = "requests", REQUEST_SCHEMA

    def __init__(self, config: EventLogConfig, key_folder: Path | None = None, is_told: bool = False) -> None:
        """`is_told` where the model is told declared features: TOLD_SCHEMA stands behind the other columns."""
        if is_told:
            self.schema = pa.schema([*REQUEST_SCHEMA, *TOLD_SCHEMA])
        self._rows: list[bytes] = []
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
        line = to_json(row, inf_nan_mode="null")
        with self._changed:
            if len(self._rows) >= self.config.rotate_rows * BUFFERED_FILES:
                self.dropped += 1
                return
            self._rows.append(line)
            if len(self._rows) >= self.config.rotate_rows:
                self._changed.notify()

    def _is_due(self) -> bool:
        return len(self._rows) >= self.config.rotate_rows

    def _turn(self) -> bool:
        with self._changed:
            lines, self._rows = self._rows, []
        try:
            if lines:
                self._write(new_source(self.prefix), lines)
        except (OSError, pa.ArrowException):
            with self._changed:
                self._rows = lines + self._rows
            return False
        self._retain()
        return True


_COLUMNS = set(EVENT_SCHEMA.names)


def _event(line: bytes) -> Event:
    row = json.loads(line)
    user_id = row.pop(KNOWN_AS)
    return Event.model_validate(row | {"user_id": user_id})
