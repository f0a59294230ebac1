"""The neighbour of the spike benchmark: a short run against a stand-in, its figures, and the process itself."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import psutil
import pytest

from adbeam.loadtest.report import summarize
from adbeam.loadtest.runner import LoadRun
from benchmarks.spike import neighbour as part


class StandIn:
    """Answers nothing; remembers how many requests were planned and whether a neighbour was there."""

    capacity = 20.0

    def __init__(self) -> None:
        self.sent: list[tuple[int, bool]] = []

    def use(self, policy: str) -> None:
        assert policy == "deadline"

    def send(self, planned_ms: np.ndarray) -> LoadRun:
        busy = [child for child in psutil.Process().children() if part.BUSY in child.cmdline()]
        assert all(child.cpu_affinity() == [part.CORE] for child in busy)
        self.sent.append((len(planned_ms), bool(busy)))
        return LoadRun([], 150.0)

    def figures(self, run: LoadRun, since_ms: float, until_ms: float) -> dict[str, float]:
        return {**summarize(run, since_ms, until_ms), "in_deadline": 0.5, "model_in_deadline": 0.25}


@pytest.mark.skipif(part.CORE not in os.sched_getaffinity(0), reason="core 0 is not ours")
def test_quiet_and_beside_take_turns_and_what_was_measured_is_kept() -> None:
    spike: Any = StandIn()
    tables: dict[str, Any] = {}
    kept: list[int] = []
    found = part.neighbour(spike, 1, tables, lambda: kept.append(1))
    assert [busy for _, busy in spike.sent] == [False, True] and len(kept) == 2
    assert found["neighbour_live_in_deadline"] == 0.5 and found["neighbour_live_model_in_deadline"] == 0.25
    assert found["neighbour_live_recovery_s"] == np.inf and found["quiet_base_width_share"] == 0.0
    assert not [child for child in psutil.Process().children() if part.BUSY in child.cmdline()]
    spike.capacity = 999.0
    part.neighbour(spike, 2, tables, lambda: None)
    assert len(spike.sent) == 4, "the first two are not repeated"
    assert spike.sent[2][0] < 3 * spike.sent[0][0], "the load stays that of the first capacity"


def test_figures_are_medians_and_a_recovery_not_seen_is_endless() -> None:
    rows = [dict.fromkeys(part.SHOWN, value) for value in (0.1, 0.9, float("nan"))]
    assert part.medians(rows)["recovery_s"] == 0.9
    assert part.medians(rows[1:])["recovery_s"] == np.inf
