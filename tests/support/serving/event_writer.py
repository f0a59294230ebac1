"""A process that acknowledges events, to be killed: `python -m tests.support.serving.event_writer FOLDER ID...`.

It writes the ids of each acknowledged batch as one line to standard output.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adbeam.records import Action, Event
from adbeam.serving.config import EventLogConfig
from adbeam.serving.events.event_log import EventLog
from adbeam.serving.events.grouping import GroupedWrites
from adbeam.serving.stores.sqlite import SqliteStore
from adbeam.workdir import WorkDir

CLIENTS, BATCH, USERS = 8, 3, 40
ASKED_MS = 1_700_000_000_000


def event(number: int) -> Event:
    """Event `number`: a click on the only ad of its request."""
    return Event(event_id=f"e{number}", request_id=f"r{number}", user_id=f"user-{number % USERS}",
                 timestamp=ASKED_MS + number, item_id="ad", action=Action.CLICK)  # fmt: skip


async def acknowledge(folder: Path, numbers: Sequence[int]) -> None:
    """Keep events of these numbers, from several clients at once, then close."""
    store = SqliteStore(WorkDir(folder).histories, max_events=100_000)
    log = EventLog(EventLogConfig(folder=WorkDir(folder).events, rotate_seconds=0.05, rotate_rows=300), store)
    with ThreadPoolExecutor(1) as writer:
        kept = GroupedWrites(log.keep, writer)
        left = [numbers[at : at + BATCH] for at in range(0, len(numbers), BATCH)]

        async def client() -> None:
            while left:
                batch = left.pop(0)
                await kept.keep([event(number) for number in batch])
                print(*batch, flush=True)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    log.close()
    store.close()


if __name__ == "__main__":
    asyncio.run(acknowledge(Path(sys.argv[1]), [int(number) for number in sys.stdin.read().split()]))
