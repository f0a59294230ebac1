"""Group commit: events of requests that wait at the same time are written as one; the disk is waited for once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from adbeam.records import Event

GROUP_EVENTS = 4000
"""A group takes no further batch beyond it: a transaction of more holds other replicas up."""
Batch = tuple[Sequence[Event], asyncio.Future[list[bool]]]


class GroupedWrites:
    """Gives batches to `write` on the one thread of `writer`, as many at once as have come while it was at work."""

    def __init__(self, write: Callable[[Sequence[Event]], list[bool]], writer: Executor) -> None:
        self._write, self._writer = write, writer
        self._waiting: deque[Batch] = deque()

    async def keep(self, events: Sequence[Event]) -> list[bool]:
        """For each event, whether it was new; raises what `write` raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[bool]] = loop.create_future()
        self._waiting.append((events, done))
        self._writer.submit(self._write_group, loop)
        return await done

    def _write_group(self, loop: asyncio.AbstractEventLoop) -> None:
        group: list[Batch] = []
        count = 0
        while self._waiting and count < GROUP_EVENTS:
            group.append(self._waiting.popleft())
            count += len(group[-1][0])
        if not group:  # an earlier call took this one's batch along
            return
        try:
            fresh: list[bool] | Exception = self._write([event for events, _ in group for event in events])
        except Exception as error:
            fresh = error
        loop.call_soon_threadsafe(_tell, group, fresh)


def _tell(group: Sequence[Batch], fresh: list[bool] | Exception) -> None:
    at = 0
    for events, done in group:
        if not done.done():  # else its client has left
            if isinstance(fresh, Exception):
                done.set_exception(fresh)
            else:
                done.set_result(fresh[at : at + len(events)])
        at += len(events)
