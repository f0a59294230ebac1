"""Budgets of campaigns as one replica keeps to them: who is paused now, what answers hold back, what events spend.

A thread tells the ledger what is held back and reads what all replicas have spent. Between two readings a replica
counts its own answers, so that a campaign pauses with the answer that takes its last money.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from adbeam.budgets.config import BudgetsConfig
from adbeam.budgets.ledger import Ledger, Spending, day_of
from adbeam.budgets.pacing import HourBounds, Pace, last_days, pace_at, shares
from adbeam.recorder import Recorder
from adbeam.records import Action, Event

logger = logging.getLogger(__name__)

TRAFFIC_MS = 10_000
"""How often a replica tells how many requests it has answered."""
NOBODY: frozenset[str] = frozenset()
Campaigns = Callable[[Sequence[str]], list[str | None]]
"""The campaign of each item, None where it is of none."""


class CampaignBudgets:
    """Keeps one replica to the budgets of a ledger. `clock` gives ms since 1970."""

    def __init__(self, ledger: Ledger, config: BudgetsConfig, metrics: Recorder, clock: Callable[[], int]) -> None:
        self._ledger, self._config, self._metrics, self._clock = ledger, config, metrics, clock
        self.paused: frozenset[str] = NOBODY
        """Campaigns that have no money left now."""
        self._name = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, str], tuple[int, str, float]] = OrderedDict()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter()
        self._has_told = False
        self._left: dict[str, float] = {}
        self._requests = self._told_requests = 0  # only the event loop counts, only polls tell
        self._told_traffic_ms = clock()
        self._hours: tuple[float, ...] | None = None
        self._hours_of: str | None = None
        self._bounds = HourBounds()
        self._polling = threading.Lock()
        self._stopping = threading.Event()
        self.poll()
        threading.Thread(target=self._run, name="budgets", daemon=True).start()

    def answered(self, request_id: str, ads: Iterable[Mapping[str, Any]]) -> None:
        """Hold back the expected money of an impression of each ad of a campaign that has a budget."""
        self._requests += 1
        for ad in ads:
            campaign = ad.get("campaign")
            if campaign in self._left and ad["expected_ecpm"]:
                self._hold((request_id, ad["item_id"]), campaign, ad["expected_ecpm"] / 1000)

    def spend(self, events: Sequence[Event], campaigns: Campaigns) -> None:
        """Count the impressions among events, an id once; raises what the ledger raises: then nothing is counted."""
        shown = [event for event in events if event.action == Action.IMPRESSION and self._left]
        if not shown:
            return
        spendings = [
            Spending(event.event_id, campaign, money, day_of(event.timestamp, self._config.timezone))
            for event, campaign in zip(shown, campaigns([event.item_id for event in shown]), strict=True)
            if campaign in self._left and campaign is not None and (money := cost(event)) > 0
        ]
        if spendings:
            self._ledger.spend(spendings)
        with self._lock:
            for event in shown:
                self._release((event.request_id, event.item_id))

    def poll(self) -> None:
        """Tell the ledger what is held back, and read who is paused."""
        with self._polling:
            self._poll(self._clock())

    def _poll(self, now_ms: int) -> None:
        with self._lock:
            while self._held and next(iter(self._held.values()))[0] <= now_ms:
                self._release(next(iter(self._held)))
            sums = {name: money for name, money in self._sums.items() if money > 0}
        if sums or self._has_told:
            self._ledger.reserve(self._name, sums, now_ms + int(1000 * self._config.reserved_seconds))
            self._has_told = bool(sums)
        pace = self._pace(now_ms)
        accounts = self._ledger.accounts(pace.day, now_ms)
        left = {name: self._bounds.left(name, account, pace) for name, account in accounts.items()}
        with self._lock:
            for name in left:  # answers of this replica since it told
                left[name] -= self._sums.get(name, 0.0) - sums.get(name, 0.0)
            self._left = left
            self.paused = frozenset(name for name, money in left.items() if money <= 0)
        self._metrics.set("adbeam_campaigns_paused", len(self.paused))

    def close(self) -> None:
        """Follow no longer; what is held back runs out by itself."""
        self._stopping.set()

    def _pace(self, now_ms: int) -> Pace:
        """Where in its day a moment is, by the traffic of the last days; tells of this replica's own."""
        days, timezone = self._config.traffic_days, self._config.timezone
        pace = pace_at(now_ms, timezone, self._hours)
        if not days:
            return pace
        if now_ms - self._told_traffic_ms >= TRAFFIC_MS:
            self._told_traffic_ms, seen = now_ms, self._requests - self._told_requests
            if seen:
                self._ledger.saw(pace.day, pace.hour, seen)
                self._told_requests += seen
        if pace.day != self._hours_of:
            self._hours, self._hours_of = shares(self._ledger.traffic(last_days(pace.day, days))), pace.day
            pace = pace_at(now_ms, timezone, self._hours)
        return pace

    def _hold(self, shown: tuple[str, str], campaign: str, money: float) -> None:
        with self._lock:
            if shown in self._held:
                return
            self._held[shown] = (self._clock() + int(1000 * self._config.reserved_seconds), campaign, money)
            self._sums[campaign] += money
            self._counts[campaign] += 1
            if campaign in self._left:
                self._left[campaign] -= money
                if self._left[campaign] <= 0:
                    self.paused |= {campaign}

    def _release(self, shown: tuple[str, str]) -> None:
        held = self._held.pop(shown, None)
        if held is not None:
            _, campaign, money = held
            self._sums[campaign] -= money
            self._counts[campaign] -= 1
            if not self._counts[campaign]:
                del self._sums[campaign], self._counts[campaign]  # sums of floats leave crumbs

    def _run(self) -> None:
        while not self._stopping.wait(self._config.poll_ms / 1000):
            try:
                self.poll()
            except Exception:
                logger.exception("the ledger of budgets cannot be read; who was paused stays paused")
                self._metrics.add("adbeam_store_failures", operation="budgets")


def cost(event: Event) -> float:
    """Money that an impression cost: its `price` where it was told, else a thousandth of its `ecpm`."""
    if event.price is not None:
        return event.price
    return 0.0 if event.ecpm is None else event.ecpm / 1000
