"""The steps around the floor: a short run against a stand-in, and the intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from adbeam.loadtest.runner import LoadRun
from benchmarks.spike.floor_steps import figures, floor_steps, interval


class StandIn:
    """Every policy has the value it is told."""

    capacity = 10.0

    def __init__(self) -> None:
        self.policy, self.planned = "", list[int]()

    def use(self, policy: str) -> None:
        self.policy = policy

    def send(self, planned_ms: np.ndarray) -> LoadRun:
        self.planned.append(len(planned_ms))
        return LoadRun([], 150.0)

    def figures(self, run: LoadRun, since_ms: float, until_ms: float) -> dict[str, float]:
        value = {"deadline": 0.9, "tabs_floor": 0.3}[self.policy]
        return {"in_deadline": 1.0, "model_in_deadline": 1.0, "value": value, "mean_width": 8.0}


def test_policies_take_turns_and_runs_there_are_kept() -> None:
    spike: Any = StandIn()
    tables: dict[str, Any] = {}
    found = floor_steps(spike, 50.0, 2, 1.0, ("deadline", "tabs_floor"), tables, lambda: None)
    assert len(spike.planned) == 8 and spike.planned[0] == spike.planned[1]
    assert found["step_12_over_tabs_floor"] == pytest.approx(3.0)
    assert found["step_08_over_tabs_floor_lo"] == pytest.approx(3.0)
    floor_steps(spike, 9999.0, 2, 1.0, ("deadline", "tabs_floor"), tables, lambda: None)
    assert len(spike.planned) == 8 and tables["floor_steps"]["floor_rps"] == 50.0


def test_intervals_are_of_pairs() -> None:
    rows = {"08": {"deadline": [{"value": 0.8}, {"value": 0.9}], "tabs_floor_early": [{"value": 0.7}, {"value": 0.7}]}}
    found = figures(rows)
    assert found["step_08_minus_tabs_floor_early"] == pytest.approx(0.15)
    assert found["step_08_minus_tabs_floor_early_lo"] < 0.1 < 0.2 < found["step_08_minus_tabs_floor_early_hi"]
    assert interval(np.array([1.0])) == (1.0, -math.inf, math.inf)
