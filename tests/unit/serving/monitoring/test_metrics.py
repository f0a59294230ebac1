"""What reaches Ray's metrics, and that every recorded name is declared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from adbeam.budgets import campaigns
from adbeam.catalogue import live
from adbeam.serving.monitoring import metrics
from adbeam.serving.monitoring.metrics import METRICS, Metrics

SOURCES = [Path(metrics.__file__).parents[1], Path(live.__file__).parent, Path(campaigns.__file__).parent]
"""Serving, catalogue, budgets."""


class RayMetric:
    """Stands where ray.serve.metrics would be; refuses what Ray refuses."""

    def __init__(self, name: str, log: list[tuple[Any, ...]]) -> None:
        self.name, self.log = name, log

    def inc(self, value: float, tags: dict[str, str]) -> None:
        if value <= 0:
            raise ValueError("value must be >0")
        self._put(value, tags)

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self._put(value, tags)

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._put(value, tags)

    def _put(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(METRICS[self.name][2])
        self.log.append((self.name, value, tags))


def test_counters_are_summed_gauges_kept_last_and_nothing_is_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[Any, ...]] = []
    gathered = Metrics()
    monkeypatch.setattr(gathered, "_metric", lambda name: RayMetric(name, log))
    gathered.add("adbeam_requests", source="model")
    gathered.add("adbeam_requests", 2, source="model")
    gathered.add("adbeam_events", 0, result="duplicate")
    gathered.set("adbeam_rung", 3)
    gathered.set("adbeam_rung", 1)
    gathered.observe("adbeam_batch_size", 4)
    gathered.observe("adbeam_batch_size", 6)
    gathered.flush()
    gathered.flush()
    assert log == [
        ("adbeam_requests", 3, {"source": "model"}),
        ("adbeam_batch_size", 4, {}),
        ("adbeam_batch_size", 6, {}),
        ("adbeam_rung", 1, {}),
    ]


def test_every_recorded_name_is_declared_and_every_declared_name_is_recorded() -> None:
    recorded = set()
    for path in (source for folder in SOURCES for source in folder.rglob("*.py")):
        if path.name != "metrics.py":
            recorded |= set(re.findall(r'"(adbeam_[a-z_]+)"', path.read_text(encoding="utf-8")))
    assert recorded == set(METRICS)
