"""The machine's own word on its processors: pressure (PSI) and steal, as shares of the last seconds.

Pressure is the share of time in which something that was ready to run had no processor: of the container where its
control group tells, else of the machine. Steal is the share of busy time that the hypervisor gave to other machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

PRESSURE = (Path("/sys/fs/cgroup/cpu.pressure"), Path("/proc/pressure/cpu"))
STAT = Path("/proc/stat")
LOOK_SECONDS = 1.0
BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat that are time of a processor that did not idle: user, nice, system, irq, softirq, steal."""
STEAL = 7


class Machine:
    """Shares as of the last look; None where the kernel does not tell. One thread looks, any may read."""

    def __init__(
        self,
        pressure: Sequence[Path] = PRESSURE,
        stat: Path = STAT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pressure_share: float | None = None
        self.steal_share: float | None = None
        self._clock, self._stat = clock, stat
        self._pressure = next((path for path in pressure if _waited_us(path) is not None), None)
        self._looked_s = clock()
        self._waited_us, self._times = self._now()

    def look(self) -> None:
        """Bring the shares up to date, at most once in LOOK_SECONDS."""
        now_s = self._clock()
        elapsed_s = now_s - self._looked_s
        if elapsed_s < LOOK_SECONDS:
            return
        waited_us, times = self._now()
        if waited_us is not None and self._waited_us is not None:
            self.pressure_share = _share(waited_us - self._waited_us, 1e6 * elapsed_s)
        if times is not None and self._times is not None:
            passed = [now - before for now, before in zip(times, self._times, strict=True)]
            self.steal_share = _share(passed[STEAL], sum(passed[column] for column in BUSY))
        self._looked_s, self._waited_us, self._times = now_s, waited_us, times

    def _now(self) -> tuple[float | None, list[int] | None]:
        return None if self._pressure is None else _waited_us(self._pressure), _processor_times(self._stat)


def _waited_us(path: Path) -> float | None:
    """The total of the line `some` of a pressure file, microseconds."""
    try:
        some = path.read_text(encoding="ascii").splitlines()[0]
        return float(some.rsplit("total=", 1)[1])
    except (OSError, ValueError, IndexError):
        return None


def _processor_times(path: Path) -> list[int] | None:
    """All processors together, in ticks since the start; None where there is no column for steal."""
    try:
        with path.open(encoding="ascii") as file:
            columns = [int(column) for column in file.readline().split()[1:]]
    except (OSError, ValueError):
        return None
    return columns if len(columns) > STEAL else None


def _share(part: float, whole: float) -> float:
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0
