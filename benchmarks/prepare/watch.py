"""The most memory that one process of a run held."""

from __future__ import annotations

import threading

import psutil

INTERVAL_SECONDS = 0.2


class PeakWorker:
    """Watches a process and its descendants: the largest of them at any moment (proportional set size), sampled."""

    def __init__(self, process_id: int) -> None:
        self.peak_bytes = 0
        self._process_id = process_id
        self._done = threading.Event()

    def __enter__(self) -> PeakWorker:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL_SECONDS):
            self.peak_bytes = max(self.peak_bytes, *map(_held, _family(self._process_id)), 0)


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
