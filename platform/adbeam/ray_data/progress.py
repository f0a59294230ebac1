"""What a long step tells off a terminal, where no bar is drawn: one line every ten seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

INTERVAL_SECONDS = 10.0
Part = TypeVar("Part")


def told(
    parts: Iterable[Part],
    total: int,
    what: str,
    *,
    size: Callable[[Part], int] = lambda part: 1,
    interval_seconds: float = INTERVAL_SECONDS,
) -> Iterator[Part]:
    """The same parts; off a terminal a line on stderr every `interval_seconds` says how much of `total` is done, the
    rate and the time left, also while a part takes longer than that. `size` is what a part counts."""
    if sys.stderr.isatty():
        yield from parts
        return
    done, started, over = 0, time.monotonic(), threading.Event()

    def tell() -> None:
        while not over.wait(interval_seconds):
            print(line(what, done, total, time.monotonic() - started), file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        for part in parts:
            done += size(part)
            yield part
    finally:
        over.set()
        teller.join()


def line(what: str, done: int, total: int, elapsed_seconds: float) -> str:
    """Progress in words: `judging: 320 of 4,000, 16.0 a second, about 230 s left`."""
    said = f"{what}: {done:,} of {total:,}"
    if not done or elapsed_seconds <= 0:
        return f"{said}, {elapsed_seconds:.0f} s so far"
    rate = done / elapsed_seconds
    return f"{said}, {rate:,.1f} a second, about {max(total - done, 0) / rate:.0f} s left"
