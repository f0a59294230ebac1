"""Following the update log: encode new ads, change the replica's index, remember how far it has read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from adbeam.catalogue.index import Sid, SidIndex
from adbeam.catalogue.updates import AdUpdate, UpdateLog
from adbeam.errors import UserError
from adbeam.records import CAMPAIGN, CATALOGUE_SCHEMA, CatalogueItem, Status
from adbeam.tokens.tokenizer import Encoded

log = logging.getLogger(__name__)

UPDATES_AT_ONCE = 200
"""Updates of a page: what a search may have to wait for."""

Listener = Callable[[AdUpdate, Sid | None], None]


class AdEncoder(Protocol):
    """What encodes a new ad: a Tokenizer, or one that a replica loads when the first ad comes."""

    @property
    def version(self) -> str:
        """Equal versions give equal SIDs."""

    def encode(self, items: pa.Table) -> Encoded:
        """SIDs of catalogue rows."""


def encode_ad(tokenizer: AdEncoder, item: CatalogueItem) -> Sid:
    """The SID of one new ad, with the codebooks as they are; raises UserError when there is nothing to embed."""
    encoded = tokenizer.encode(catalogue_row(item))
    if not encoded.usable_N[0]:
        raise UserError(
            "the ad has no text, category or price to embed", field="title", value=item.title, remedy="give it a title"
        )
    return tuple(int(code) for code in encoded.sids_NT[0])


def catalogue_row(item: CatalogueItem) -> pa.Table:
    """A catalogue of one row, with the item's features as columns."""
    row = item.model_dump(mode="json", exclude={"targeting", CAMPAIGN})
    features = row.pop("features")
    added = {name: value for name, value in features.items() if name not in CATALOGUE_SCHEMA.names}
    kinds = [(name, pa.string() if isinstance(value, str) else pa.float64()) for name, value in added.items()]
    return pa.Table.from_pylist([{**added, **row}], schema=pa.schema([*CATALOGUE_SCHEMA, *kinds]))


def insertion(tokenizer: AdEncoder, item: CatalogueItem) -> AdUpdate:
    """The update that adds `item`: encoded here once, so that replicas with the same codebooks need not."""
    sid = encode_ad(tokenizer, item)
    return AdUpdate(
        operation="insert",
        item_id=item.item_id,
        ecpm=item.ecpm,
        item=item,
        sid=sid,
        tokenizer_version=tokenizer.version,
    )


class Follower:
    """Applies the update log to one index, from `watermark` on.

    `poll` may be called by hand; `start` calls it every `interval_seconds` in a thread of its own. `listener` hears
    every applied update with the SID of its ad, after the index has changed, and `settled` is called after every page.
    """

    def __init__(
        self,
        updates: UpdateLog,
        index: SidIndex,
        tokenizer: AdEncoder,
        *,
        watermark: int = 0,
        interval_seconds: float = 0.1,
        listener: Listener | None = None,
        settled: Callable[[], None] | None = None,
    ) -> None:
        self.updates, self.index, self.tokenizer = updates, index, tokenizer
        self.watermark = watermark
        self.interval_seconds = interval_seconds
        self.skipped = 0
        self.polled_s = time.monotonic()
        """When the log was last read to its end, by the monotonic clock."""
        self._listener, self._settled = listener, settled
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def poll(self) -> int:
        """Apply all that is new and return how many updates that was."""
        applied = 0
        with self._lock:
            while page := self.updates.read(self.watermark, UPDATES_AT_ONCE):
                for number, _, update in page:
                    self._apply(update)
                    self.watermark = number
                applied += len(page)
                if self._settled is not None:
                    self._settled()
            self.polled_s = time.monotonic()
        return applied

    def checkpoint(self) -> tuple[int, pa.Table]:
        """(watermark, the whole index at that point): what a restart or a new bundle begins from."""
        with self._lock:
            return self.watermark, self.index.snapshot()

    def start(self) -> None:
        """Catch up, then follow in the background."""
        self.poll()
        self._thread = threading.Thread(target=self._run, name="index-follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following and wait for the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.interval_seconds):
            try:
                self.poll()
            except Exception:
                # A log that cannot be read for a moment must not end the following; the next round tries again.
                log.exception("cannot follow the update log beyond %d", self.watermark)

    def _apply(self, update: AdUpdate) -> None:
        """Change the index. An ad that cannot be encoded, or is unknown here, is skipped and counted, never fatal."""
        try:
            sid = self._change(update)
        except Exception as error:
            self.skipped += 1
            log.warning("update of %s skipped: %s: %s", update.item_id, type(error).__name__, error)
            return
        if self._listener is not None:
            self._listener(update, sid)

    def _change(self, update: AdUpdate) -> Sid | None:
        if update.operation == "insert":
            item = update.item
            assert item is not None
            same = update.sid is not None and update.tokenizer_version == self.tokenizer.version
            sid = update.sid if same and update.sid is not None else encode_ad(self.tokenizer, item)
            self.index.insert(item.item_id, sid, ecpm=item.ecpm, active=item.status == Status.ACTIVE)
            return sid
        if update.operation == "update":
            if update.ecpm is None:
                return self.index.touch(update.item_id).sid
            return self.index.update(update.item_id, ecpm=update.ecpm).sid
        changes = {"pause": self.index.pause, "resume": self.index.resume, "remove": self.index.remove}
        return changes[update.operation](update.item_id).sid
