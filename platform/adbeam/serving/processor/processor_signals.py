"""Processor signals of a replica: what its batches lost to others on the machine, for the controller and for people."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from adbeam.recorder import Recorder
from adbeam.serving.processor.batch_clock import BatchClock
from adbeam.serving.processor.machine import Machine

WINDOW_SECONDS = 10.0
KEPT = 8192


class ProcessorSignals:
    """`start` and `finish` are called by the thread that waits for batches, all else by the event loop."""

    def __init__(
        self,
        clock: BatchClock | None = None,
        machine: Machine | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._machine, self._now_s = clock or BatchClock(), machine or Machine(), now_s
        self._batches: deque[tuple[float, float, float]] = deque(maxlen=KEPT)

    def start(self, engine: object) -> None:
        """A batch of `engine` begins."""
        self._clock.start(engine)

    def finish(self, decode_ms: float) -> float:
        """The batch has ended after `decode_ms`: the milliseconds of it without a processor.

        The clocks of a kernel that knows of steal leave it out, so it is added by its share of the last seconds.
        """
        waited_ms = min(self._clock.off_cpu_ms(), decode_ms)
        off_cpu_ms = waited_ms + (decode_ms - waited_ms) * (self._machine.steal_share or 0.0)
        self._batches.append((self._now_s(), decode_ms, off_cpu_ms))
        return off_cpu_ms

    def off_cpu_share(self) -> float | None:
        """Share of the decode time of the last seconds without a processor; None without batches."""
        since_s = self._now_s() - WINDOW_SECONDS
        recent = [(decode_ms, off_ms) for at_s, decode_ms, off_ms in list(self._batches) if at_s >= since_s]
        decode_ms = sum(decode for decode, _ in recent)
        return sum(off for _, off in recent) / decode_ms if decode_ms > 0 else None

    def summary(self) -> dict[str, object]:
        """What `processor` of /v1/status says."""
        self._machine.look()
        share = self.off_cpu_share()
        return {
            "window_seconds": WINDOW_SECONDS,
            "off_cpu_share": None if share is None else round(share, 4),
            "off_cpu_source": self._clock.source,
            "pressure_share": self._machine.pressure_share,
            "steal_share": self._machine.steal_share,
        }

    def publish(self, metrics: Recorder) -> None:
        """Set the gauges of what the machine tells."""
        self._machine.look()
        if self._machine.pressure_share is not None:
            metrics.set("adbeam_cpu_pressure_share", self._machine.pressure_share)
        if self._machine.steal_share is not None:
            metrics.set("adbeam_cpu_steal_share", self._machine.steal_share)

    def close(self) -> None:
        """Close the kernel's files."""
        self._clock.close()
