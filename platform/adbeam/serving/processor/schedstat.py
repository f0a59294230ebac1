"""Threads as the kernel accounts for them: time on a processor, and time ready to run and waiting for one.

Linux tells both for every thread in `/proc/PID/task/TID/schedstat`. The wait is the run queue's: neither sleep nor a
read nor a lock counts, but a neighbour on the same core does, and a container that has used up its CPU quota.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import NamedTuple

NS_PER_MS = 1e6
LINE_BYTES = 96


class ThreadTimes(NamedTuple):
    """Milliseconds of a thread since it began."""

    on_cpu_ms: float
    waited_ms: float


class ThreadAccounts:
    """The threads of one process; their files stay open, since they are read twice a batch. One thread uses it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._files: dict[int, int] = {}

    def threads(self) -> list[int]:
        """Ids of the threads there are; none where the process is gone or the system has no /proc."""
        try:
            return [int(name) for name in os.listdir(f"/proc/{self.pid}/task")]
        except OSError:
            return []

    def times(self, thread: int) -> ThreadTimes | None:
        """What the kernel says of a thread; None where it has ended, or the kernel does not tell."""
        try:
            file = self._files.get(thread)
            if file is None:
                file = self._files[thread] = os.open(f"/proc/{self.pid}/task/{thread}/schedstat", os.O_RDONLY)
            on_cpu_ns, waited_ns, _ = os.pread(file, LINE_BYTES, 0).split()
        except (OSError, ValueError):
            self._forget(thread)
            return None
        return ThreadTimes(int(on_cpu_ns) / NS_PER_MS, int(waited_ns) / NS_PER_MS)

    def close(self) -> None:
        """Close the files."""
        for thread in list(self._files):
            self._forget(thread)

    def _forget(self, thread: int) -> None:
        file = self._files.pop(thread, None)
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)


def kernel_tells() -> bool:
    """Whether this kernel accounts for waiting; one without says nothing, or that nothing ever ran."""
    accounts = ThreadAccounts(os.getpid())
    times = accounts.times(threading.get_native_id())
    accounts.close()
    return times is not None and times.on_cpu_ms > 0
