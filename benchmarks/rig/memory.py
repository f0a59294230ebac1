"""How much memory a benchmark held."""

from __future__ import annotations

import threading

import psutil


class PeakMemory:
    """The most that this process and its descendants held at once (proportional set size), sampled."""

    def __init__(self, interval_seconds: float) -> None:
        self.peak_bytes = 0
        self._interval_seconds = interval_seconds
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
            me = psutil.Process()
            self.peak_bytes = max(self.peak_bytes, sum(map(_resident, [me, *me.children(recursive=True)])))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
