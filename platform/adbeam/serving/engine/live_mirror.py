"""The update log as the replica sees it when its model lives in the decode process: a thread asks for the news."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from adbeam.catalogue.index import Sid
from adbeam.catalogue.live import HeardEcpm, LiveNews, publish
from adbeam.catalogue.owners import HeardOwners
from adbeam.catalogue.updates import AdChange
from adbeam.recorder import Recorder
from adbeam.serving.engine.channel import Caller, EngineGone
from adbeam.targeting.heard import HeardRules

logger = logging.getLogger(__name__)


class ProcessLive:
    """A Live over the control channel of a decode process; what it knows is up to `poll_ms` older than there."""

    def __init__(
        self, control: Caller, first: LiveNews, poll_ms: float, metrics: Recorder, live_ecpm: HeardEcpm
    ) -> None:
        """`live_ecpm` is told what ads earn, as it changes."""
        self._live_ecpm = live_ecpm
        self.rules = HeardRules()
        """Targeting rules of the ads that have changed."""
        self.owners = HeardOwners()
        """Whose the ads that have changed are."""
        self._control, self._metrics, self._poll_s = control, metrics, poll_ms / 1000
        self._dead: set[str] = set()
        self._changed: set[str] = set()
        self._taking = threading.Lock()
        self._news = first
        self._heard_s = time.monotonic()
        self._take(first)
        self._stopping = threading.Event()
        threading.Thread(target=self._listen, name="live ads", daemon=True).start()

    @property
    def watermark(self) -> int:
        """Newest update that has been applied, as far as is known here."""
        return self._news.watermark

    def is_live(self, item_id: str) -> bool:
        """Whether an ad may be shown now."""
        return item_id not in self._dead

    def is_unchanged(self, item_id: str) -> bool:
        """Whether an ad of the bundle is live and still what the bundle says, its eCPM aside."""
        return item_id not in self._dead and item_id not in self._changed

    def change(self, changes: Sequence[AdChange]) -> tuple[int, list[Sid | None]]:
        """Append changes and apply them there, and know of them here; raises ChangeRefused or
        LogUnavailable."""
        result: tuple[int, list[Sid | None]] = self._control.call("change", list(changes))
        self._ask()
        return result

    def publish(self) -> None:
        """Set the gauges; the age grows while nothing is heard."""
        publish(self._metrics, self._news, time.monotonic() - self._heard_s)

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()

    def _listen(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                self._ask()
            except EngineGone:
                return
            except Exception:
                logger.exception("the decode process did not tell which ads have changed")

    def _ask(self) -> None:
        with self._taking:
            self._take(self._control.call("news", self._news.version))

    def _take(self, news: LiveNews) -> None:
        self._news, self._heard_s = news, time.monotonic()
        for item_id, live, unchanged, ecpm, rules, owner in news.ads:
            self._live_ecpm.hear(item_id, ecpm)
            self.rules.hear(item_id, rules)
            self.owners.hear(item_id, owner)
            (self._dead.discard if live else self._dead.add)(item_id)
            if live and not unchanged:
                self._changed.add(item_id)
