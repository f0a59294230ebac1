"""A served model that follows the update log: ads come, change and go between two batches, without a rebuild.

The follower's thread encodes and writes; the decode thread reads. An ad's row exists before the index names it, and the
trie takes what is queued when the next search begins, so that a search sees an ad whole or not at all.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence

from adbeam.bundle import Bundle
from adbeam.catalogue.ads import AdCatalogue
from adbeam.catalogue.follower import Follower, insertion
from adbeam.catalogue.index import Sid
from adbeam.catalogue.live import ChangeRefused, LiveNews, LogUnavailable, publish
from adbeam.catalogue.updates import AdChange, AdUpdate, UpdateLog
from adbeam.decoding import Trie
from adbeam.errors import UserError
from adbeam.recorder import Recorder
from adbeam.tokens.encoder import LazyTokenizer

logger = logging.getLogger(__name__)


class LiveAds:
    """Keeps the catalogue and the trie of one model on the update log; `change` appends to it."""

    def __init__(
        self,
        bundle: Bundle,
        catalogue: AdCatalogue,
        trie: Trie,
        updates: UpdateLog,
        poll_ms: float,
        metrics: Recorder,
    ) -> None:
        self._catalogue, self._trie, self._metrics = catalogue, trie, metrics
        self.updates = updates
        self._changing = threading.Lock()
        self.encoder = LazyTokenizer(bundle.settings.tokens, bundle.codebooks, bundle.embedder_dir)
        self.follower = Follower(
            updates,
            catalogue.index,
            self.encoder,
            watermark=bundle.settings.updates_watermark,
            interval_seconds=poll_ms / 1000,
            listener=self._applied,
            settled=self._settled,
        )

    def start(self) -> None:
        """Replay what came after the bundle was made, then follow; raises UserError when the log does not fit it."""
        self.follower.start()

    def stop(self) -> None:
        """Follow no longer; waits for the thread."""
        self.follower.stop()

    def is_live(self, item_id: str) -> bool:
        """Whether an ad may be shown now."""
        return self._catalogue.index.is_live(item_id)

    def change(self, changes: Sequence[AdChange]) -> tuple[int, list[Sid | None]]:
        """Append `changes` and apply them here: (number of the last, SID of each inserted ad).

        All or nothing: raises ChangeRefused naming the change that cannot be made, LogUnavailable without the log.
        """
        with self._changing:
            return self._change(changes)

    def _change(self, changes: Sequence[AdChange]) -> tuple[int, list[Sid | None]]:
        try:
            self.follower.poll()  # what other replicas were told a moment ago
            updates = [self._update(changes, place) for place in range(len(changes))]
            last = self.updates.append(updates)
            self.follower.poll()  # this replica must serve the change before its caller reads the answer
        except ChangeRefused:
            raise
        except (UserError, OSError, sqlite3.Error) as error:
            logger.error("ads cannot be changed: %s", error)
            raise LogUnavailable(f"the update log cannot be written: {error}") from None
        return last, [update.sid for update in updates]

    @property
    def watermark(self) -> int:
        """Newest update that has been applied."""
        return self.follower.watermark

    def news(self, since: int) -> LiveNews:
        """What has changed after index version `since`; everything, where that is no longer known."""
        catalogue, index = self._catalogue, self._catalogue.index
        version, changes = index.version, index.changes_since(since)
        named = catalogue.item_ids if changes is None else [change.item_id for change in changes]
        ads = [
            (
                item,
                index.is_live(item),
                self._catalogue.is_unchanged(item),
                index.ecpm(item),
                self._catalogue.rules(item),
                self._catalogue.owner(item),
            )
            for item in dict.fromkeys(named)
        ]
        age_seconds = time.monotonic() - self.follower.polled_s
        return LiveNews(version, self.watermark, self.follower.skipped, age_seconds, ads)

    def publish(self) -> None:
        """Set the gauges."""
        publish(self._metrics, self.news(self._catalogue.index.version))

    def _update(self, changes: Sequence[AdChange], place: int) -> AdUpdate:
        change = changes[place]
        self._check_rules(change, f"changes.{place}")
        if change.operation == "insert":
            assert change.item is not None
            try:
                return insertion(self.encoder, change.item)
            except UserError as error:
                raise ChangeRefused(str(error), field=f"changes.{place}.item", value=change.item_id) from None
        if change.item_id not in self._catalogue.index and not _inserted(changes[:place], change.item_id):
            raise ChangeRefused(
                "Input should be the id of a known ad", field=f"changes.{place}.item_id", value=change.item_id
            )
        return AdUpdate(
            **change.model_dump(include={"operation", "item_id", "ecpm", "targeting", "advertiser", "campaign"})
        )

    def _check_rules(self, change: AdChange, place: str) -> None:
        rules, where = change.targeting, place
        if change.item is not None:
            rules, where = change.item.targeting, f"{place}.item"
        try:
            if rules is not None and self._catalogue.targeting is not None:
                self._catalogue.targeting.check(rules)
        except UserError as error:
            raise ChangeRefused(error.what, field=f"{where}.{error.field}", value=error.value) from None

    def _applied(self, update: AdUpdate, sid: Sid | None) -> None:
        """The index has changed: make the row, and tell the trie."""
        catalogue, row = self._catalogue, self._catalogue.row_of.get(update.item_id)
        if update.operation == "insert":
            assert update.item is not None and sid is not None
            if row is not None:
                self._trie.remove(row)  # an ad that comes again gets a new row; the old one stands at its old SID
            row = catalogue.insert(update.item, sid)
        live_sid = catalogue.index.sid(update.item_id) if catalogue.index.is_live(update.item_id) else None
        if row is None:
            return
        if update.operation == "update" and not (update.advertiser is None and update.campaign is None):
            self._trie.remove(row)
            row = catalogue.given_to(row, update.advertiser, update.campaign)
            if live_sid is not None:
                self._trie.insert(row, live_sid)
        if update.operation == "update" and update.targeting is not None:
            catalogue.target(row, update.targeting)
        if live_sid is None:
            self._trie.remove(row)
        elif update.operation in ("insert", "resume"):
            self._trie.insert(row, live_sid)

    def _settled(self) -> None:
        self._trie.apply_pending()


def _inserted(changes: Sequence[AdChange], item_id: str) -> bool:
    return any(change.operation == "insert" and change.item_id == item_id for change in changes)
