"""What a long step tells off a terminal, where no bar is drawn: one line every ten seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

INTERVAL_SECONDS = 10.0
Part = TypeVar("Part")


def told(
    parts: Iterable[Part],
    total: int | None,
    what: str,
    *,
    size: Callable[[Part], int] = lambda part: 1,
    interval_seconds: float = INTERVAL_SECONDS,
) -> Iterator[Part]:
    """The same parts; off a terminal a line on stderr every `interval_seconds` says how much of `total` is done, the
    rate and the time left, also while a part takes longer than that. `size` is what a part counts; a total of None is
    not known before."""
    done = 0
    with _telling(lambda elapsed_seconds: line(what, done, total, elapsed_seconds), interval_seconds):
        for part in parts:
            done += size(part)
            yield part


@contextmanager
def lasting(what: str, *, interval_seconds: float = INTERVAL_SECONDS) -> Iterator[None]:
    """The same for a step that is one piece: off a terminal a line every `interval_seconds` says how long it lasts."""
    with _telling(lambda elapsed_seconds: f"{what}: {elapsed_seconds:.0f} s so far", interval_seconds):
        yield


@contextmanager
def _telling(say: Callable[[float], str], interval_seconds: float) -> Iterator[None]:
    """Print what `say` makes of the seconds since the start, again and again until the end; nothing on a terminal."""
    if sys.stderr.isatty():
        yield
        return
    started, over = time.monotonic(), threading.Event()

    def tell() -> None:
        while not over.wait(interval_seconds):
            print(say(time.monotonic() - started), file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def line(what: str, done: int, total: int | None, elapsed_seconds: float) -> str:
    """Progress in words: `judging: 320 of 4,000, 16.0 a second, about 230 s left`."""
    said = f"{what}: {done:,}" if total is None else f"{what}: {done:,} of {total:,}"
    if not done or elapsed_seconds <= 0:
        return f"{said}, {elapsed_seconds:.0f} s so far"
    rate = done / elapsed_seconds
    if total is None:
        return f"{said}, {rate:,.1f} a second"
    return f"{said}, {rate:,.1f} a second, about {max(total - done, 0) / rate:.0f} s left"
