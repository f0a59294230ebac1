"""Feedback to answers: each event counted once, into the history store, the event log and out of the result cache.

What was answered is written down here too: what comes back is held against it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from adbeam.budgets.campaigns import NOBODY, CampaignBudgets, Campaigns
from adbeam.budgets.open_ledger import open_ledger
from adbeam.declared.encoder import ToldCodes
from adbeam.identity.people import known_user
from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.request import Query
from adbeam.serving.events.event_log import EventLog, NotKept, RequestLog
from adbeam.serving.events.grouping import GroupedWrites
from adbeam.serving.http.problems import field_problem
from adbeam.serving.http.schemas import EventBatch, PostedEvent
from adbeam.serving.monitoring.returned_money import ReturnedMoney
from adbeam.serving.privacy import PrivacyGate
from adbeam.serving.queue.cache import ResultCache
from adbeam.serving.stores.store import HistoryStore, now_ms

logger = logging.getLogger(__name__)

FUTURE_TOLERANCE_MS = 5 * 60 * 1000


class Feedback:
    """Takes answers, and batches of events; `writer` is the one thread that the store is written from."""

    def __init__(
        self,
        config: ServingConfig,
        store: HistoryStore,
        cache: ResultCache,
        log: EventLog | None,
        request_log: RequestLog | None,
        writer: Executor,
        metrics: Recorder,
    ) -> None:
        self._store, self._cache, self._log, self._writer, self._metrics = store, cache, log, writer, metrics
        self._request_log = request_log
        self._kept = None if log is None else GroupedWrites(log.keep, writer)
        self._privacy = PrivacyGate(config.privacy, metrics)
        self._money = ReturnedMoney(config.returned_money, metrics)
        ledger = open_ledger(config.budgets)
        self._budgets = None if ledger is None else CampaignBudgets(ledger, config.budgets, metrics, now_ms)

    @property
    def spent(self) -> frozenset[str]:
        """Campaigns whose budget is spent now."""
        return NOBODY if self._budgets is None else self._budgets.paused

    def answered(self, query: Query, body: Mapping[str, Any], is_cpm: bool, told: ToldCodes | None = None) -> None:
        """Write down an answer, as its body tells it, and what the model was `told`; only prices that are CPM are held
        against what came back."""
        if is_cpm:
            self._money.answered(query.scene, body)
            if self._budgets is not None:
                self._budgets.answered(body["request_id"], body["ads"])
        if self._request_log is not None:
            self._request_log.append(query.user_id, query.now_ms, query.scene, body, told)

    async def take(
        self, batch: EventBatch, nobody_words: frozenset[str], campaigns: Campaigns | None = None
    ) -> dict[str, int]:
        """Events by what became of them, those of users among `nobody_words` as nobody's, those of people whose
        signals forbid to keep them as forbidden; the others are in the store and, where there is one, in the event log.

        Raises NotKept when one of the two refused them, so that they may come again, and Problem 422 for a time in the
        future.
        """
        latest = now_ms() + FUTURE_TOLERANCE_MS
        for place, event in enumerate(batch.events):
            if event.timestamp > latest:
                raise field_problem(f"events.{place}.timestamp", "Input should not be in the future", event.timestamp)
        somebodys = _of_users(batch.events, nobody_words)
        events = [event for event in somebodys if not self._privacy.forbids(event.privacy)]
        try:
            fresh = await self._written(batch.events, events, campaigns)
        except NotKept as error:
            self._metrics.add("adbeam_store_failures", operation=error.operation)
            raise
        accepted = [event for event, is_new in zip(events, fresh, strict=True) if is_new]
        for user_id in {event.user_id for event in accepted}:
            self._cache.forget_user(user_id)
        self._money.take(accepted)
        duplicates, nobody = len(fresh) - len(accepted), len(batch.events) - len(somebodys)
        forbidden = len(somebodys) - len(events)
        self._metrics.add("adbeam_events", len(accepted), result="accepted")
        self._metrics.add("adbeam_events", duplicates, result="duplicate")
        left_out = {"nobody": nobody, "forbidden": forbidden}
        for result, count in left_out.items():
            self._metrics.add("adbeam_events", count, result=result)
        return {"accepted": len(accepted), "duplicates": duplicates, **{name: n for name, n in left_out.items() if n}}

    async def _written(
        self, shown: Sequence[PostedEvent], events: Sequence[PostedEvent], campaigns: Campaigns | None
    ) -> list[bool]:
        """Whether each of `events` is new, once it is kept."""
        try:
            loop = asyncio.get_running_loop()
            if self._budgets is not None and campaigns is not None:  # what was shown to nobody costs, too
                await loop.run_in_executor(self._writer, self._budgets.spend, shown, campaigns)
            if self._kept is not None:
                return await self._kept.keep(events) if events else []
            return await loop.run_in_executor(self._writer, self._store.append, events)
        except NotKept:
            raise
        except Exception as error:  # not its text: Redis repeats the command there, and users are in it
            logger.error("the history store refused %d events: %s", len(events), type(error).__name__)
            raise NotKept("the history store cannot be written", "append") from None

    def publish(self) -> None:
        """Set the gauges, and count the money of answers whose window has ended."""
        if self._log is not None:
            self._metrics.set("adbeam_event_log_dropped_rows", self._log.dropped)
        if self._request_log is not None:
            self._metrics.set("adbeam_request_log_dropped_rows", self._request_log.dropped)
        self._money.publish()

    def close(self) -> None:
        """Write what is left."""
        if self._budgets is not None:
            self._budgets.close()
        for log in (self._request_log, self._log):
            if log is not None:
                log.close()


def _of_users(events: Sequence[PostedEvent], nobody_words: frozenset[str]) -> list[PostedEvent]:
    """The events that are somebody's, under the names that histories know."""
    found = []
    for event in events:
        user_id = known_user(event.user_id, nobody_words)
        if user_id is not None:
            found.append(event if user_id == event.user_id else event.model_copy(update={"user_id": user_id}))
    return found
