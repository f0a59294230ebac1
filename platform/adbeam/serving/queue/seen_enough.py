"""What the user of a request that is not decoded has seen enough of: asked of whoever knows histories and ads.

One question is under way at a time; whoever comes meanwhile shares the next: a storm of late requests costs few.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from adbeam.list_rules.caps import NOTHING_WORN, Worn
from adbeam.recorder import Recorder
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Query

logger = logging.getLogger(__name__)

RESERVED_MS = 5.0
"""Part of a deadline that is kept for the question, in case the request will not be decoded."""
RESERVED_SHARE = 0.1
"""Most of a deadline that is kept."""
LEAST_SECONDS = 0.02
"""A question gets so long even where the deadline is nearer: rather a little late than an ad too often."""

Ask = Callable[[Sequence[Query]], list[Worn]]


class SeenEnough:
    """Used from the event loop only; without caps nothing is asked and nothing reserved."""

    def __init__(self, has_caps: bool, metrics: Recorder, withheld: frozenset[str] = frozenset()) -> None:
        """Ads that caps of the kinds `withheld` might hold for are kept from users of whom it is not known."""
        self._has_caps, self._metrics, self._withheld = has_caps, metrics, withheld
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="caps") if has_caps else None
        self._waiting: list[tuple[Query, asyncio.Future[Worn]]] = []
        self._newest: Ask | None = None
        self._asking: asyncio.Task[None] | None = None

    def counts(self, query: Query) -> bool:
        """Whether caps may keep ads from the user of a query."""
        return self._has_caps and not query.is_free and (query.user_id is not None or bool(query.history))

    def reserved_ms(self, query: Query, deadline_ms: float) -> float:
        """Time that a decode of a query does not get."""
        return min(RESERVED_MS, RESERVED_SHARE * deadline_ms) if self.counts(query) else 0.0

    async def worn(self, query: Query, model: LoadedModel, until_s: float) -> Worn:
        """What the user has seen enough of; where it is not known by `until_s` (monotonic), they count as unknown, as
        where the history cannot be read."""
        if not self.counts(query) or model.worn is None:
            return Worn(spent=query.spent) if query.spent else NOTHING_WORN
        future: asyncio.Future[Worn] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        self._newest = model.worn  # a model that has come into force meanwhile is asked
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            return await asyncio.wait_for(future, max(LEAST_SECONDS, until_s - time.monotonic()))
        except TimeoutError:
            self._metrics.add("adbeam_store_failures", operation="caps")
            return self._unread(query)

    def _unread(self, query: Query) -> Worn:
        self._metrics.add("adbeam_caps_unread", then="withhold" if self._withheld else "show")
        return Worn(spent=query.spent, withheld=self._withheld)

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            asked, self._waiting = self._waiting, []
            try:
                assert self._newest is not None
                found = await loop.run_in_executor(self._thread, self._newest, [query for query, _ in asked])
            except Exception:
                logger.exception("what %d users have seen enough of is not known", len(asked))
                self._metrics.add("adbeam_store_failures", operation="caps")
                found = [self._unread(query) for query, _ in asked]
            for (_, future), worn in zip(asked, found, strict=True):
                if not future.done():
                    future.set_result(worn)
