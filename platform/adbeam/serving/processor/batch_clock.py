"""The own time of a batch and its time off the processor, told apart.

The thread that called is on the way of every batch, here and in the decode process; where it shared the work out, so is
the thread that was done last. What those waited on a run queue is time off the processor. Threads that share the work
are found by their processor time: a pool of the decoder and the threads of a matrix product look alike. Where the
kernel does not tell who waited, the clock of the processor is held against the wall clock; with several threads it says
less.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

from adbeam.serving.processor.schedstat import ThreadAccounts, ThreadTimes, kernel_tells

WORKER_SHARE = 0.5
"""A thread with this much of the busiest one's processor time did part of the batch."""
LIST_SECONDS = 1.0
"""How often the threads that may decode are listed: they seldom come and go."""
POOL_NAME = "decode_"
"""How the threads of a decoder's pool are called in this process, beside many that do not decode."""


class BatchClock:
    """Measures batches one after the other; used by the thread that waits for them."""

    def __init__(self, tells: bool | None = None) -> None:
        """`tells`: whether the kernel says who waited for a processor; by default it is asked."""
        self._tells = kernel_tells() if tells is None else tells
        self._here, self._there = ThreadAccounts(os.getpid()), ThreadAccounts(os.getpid())
        self._listed: list[int] = []
        self._listed_s = float("-inf")
        self._began_s = 0.0
        self._caller: ThreadTimes | None = None
        self._before: Mapping[int, ThreadTimes] = {}
        self._on_cpu_ms = 0.0

    @property
    def source(self) -> str:
        """Where the figures come from: run_queue or cpu_clock."""
        return "run_queue" if self._tells else "cpu_clock"

    def start(self, engine: object) -> None:
        """A batch of `engine` begins; one whose work another process does has that process's `pid`."""
        pid = getattr(engine, "pid", None) or self._here.pid
        if pid != self._there.pid:
            self._there.close()
            self._there, self._listed_s = ThreadAccounts(pid), float("-inf")
        self._began_s = time.monotonic()
        if self._tells:
            self._caller, self._before = self._here.times(threading.get_native_id()), self._workers()
        else:
            self._on_cpu_ms = self._cpu_clock_ms()

    def off_cpu_ms(self) -> float:
        """Milliseconds since the start in which the batch was ready to run and had no processor."""
        wall_ms = 1000.0 * (time.monotonic() - self._began_s)
        if not self._tells:
            return _between(wall_ms - (self._cpu_clock_ms() - self._on_cpu_ms), wall_ms)
        caller, after = self._here.times(threading.get_native_id()), self._workers()
        lost_ms = caller.waited_ms - self._caller.waited_ms if caller and self._caller else 0.0
        since = {
            thread: ThreadTimes(*(now - then for now, then in zip(times, self._before[thread], strict=True)))
            for thread, times in after.items()
            if thread in self._before
        }
        return _between(lost_ms + lost_by_workers_ms(since, self._there.pid, wall_ms), wall_ms)

    def close(self) -> None:
        """Close the kernel's files."""
        self._here.close()
        self._there.close()

    def _workers(self) -> dict[int, ThreadTimes]:
        """The threads that may decode, beside the one that calls."""
        found = ((thread, self._there.times(thread)) for thread in self._threads())
        return {thread: times for thread, times in found if times is not None}

    def _threads(self) -> list[int]:
        now_s = time.monotonic()
        if now_s - self._listed_s > LIST_SECONDS:
            self._listed, self._listed_s = self._list_threads(), now_s
        return self._listed

    def _list_threads(self) -> list[int]:
        if self._there.pid != os.getpid():
            return self._there.threads()
        pool = (thread.native_id for thread in threading.enumerate() if thread.name.startswith(POOL_NAME))
        return [thread for thread in pool if thread is not None]

    def _cpu_clock_ms(self) -> float:
        """Processor time of whoever decodes: the other process, the calling thread, or with a pool all threads."""
        if self._there.pid != os.getpid():
            return 1000.0 * _process_seconds(self._there.pid)
        return 1000.0 * (time.process_time() if self._threads() else time.thread_time())


def lost_by_workers_ms(since: Mapping[int, ThreadTimes], main: int, wall_ms: float) -> float:
    """What a batch lost by the waits of its threads; `since` are the times of each within the batch.

    The main thread's wait counts in full. Of the others the longest counts, but no batch of work can have lost more
    than the wall clock shows beyond its busiest thread: who waited may have had less to do.
    """
    main_ms = since[main].waited_ms if main in since else 0.0
    others = [times for thread, times in since.items() if thread != main]
    busiest_ms = max((times.on_cpu_ms for times in others), default=0.0)
    if not others or (main in since and since[main].on_cpu_ms >= busiest_ms):
        return main_ms
    waited_ms = max(times.waited_ms for times in others if times.on_cpu_ms >= WORKER_SHARE * busiest_ms)
    return main_ms + min(waited_ms, max(wall_ms - busiest_ms, 0.0))


def _process_seconds(pid: int) -> float:
    """Processor time of a process; Linux makes the id of its clock from its own."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except (OSError, AttributeError, OverflowError):
        return time.monotonic()  # nothing is known, so nothing counts as lost


def _between(value: float, most: float) -> float:
    return min(max(value, 0.0), most)
