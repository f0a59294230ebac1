"""How much memory a benchmark held."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

import psutil


class PeakMemory:
    """The most that a process and its descendants held at a moment (proportional set size), sampled."""

    def __init__(
        self, interval_seconds: float, process_id: int | None = None, of: Callable[[Iterable[int]], int] = sum
    ) -> None:
        """`process_id` is this one by default; `of` makes one number of what each holds: `sum`, or `max` for the
        largest of them."""
        self.peak_bytes = 0
        self._interval_seconds, self._of = interval_seconds, of
        self._process_id = os.getpid() if process_id is None else process_id
        self._done = threading.Event()

    def __enter__(self) -> PeakMemory:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._interval_seconds):
            self.peak_bytes = max(self.peak_bytes, self._of([0, *map(_held, _family(self._process_id))]))


def _family(process_id: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(process_id)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _held(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
