"""Recent answers: how the last seconds went in this replica, which the status tells beside Prometheus."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

KEPT = 8192


class RecentAnswers:
    """Latencies and sources of the answers of the last `window_seconds`, at most KEPT of them."""

    def __init__(self, window_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.window_seconds = window_seconds
        self._clock = clock
        self._answers: deque[tuple[float, float, str]] = deque(maxlen=KEPT)

    def add(self, latency_seconds: float, source: str) -> None:
        """Remember one answer."""
        self._answers.append((self._clock(), latency_seconds, source))

    def summary(self) -> dict[str, object]:
        """`answers`, `by_source`, and p50_ms, p95_ms, p99_ms (null without answers)."""
        since = self._clock() - self.window_seconds
        recent = [(latency, source) for moment, latency, source in self._answers if moment >= since]
        latencies = sorted(latency * 1000 for latency, _ in recent)
        by_source = {name: sum(source == name for _, source in recent) for name in ("model", "cache", "fallback")}
        quantiles = {f"p{round(100 * share)}_ms": _quantile(latencies, share) for share in (0.5, 0.95, 0.99)}
        return {"window_seconds": self.window_seconds, "answers": len(recent), "by_source": by_source, **quantiles}


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None
