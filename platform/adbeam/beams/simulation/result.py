"""What a simulated run gives: one outcome a request, and the figures made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MODEL, FALLBACK, SHED = 0, 1, 2


@dataclass(frozen=True)
class SimulationResult:
    """One entry per request N: answered_ms (nan if shed), source (MODEL | FALLBACK | SHED), mean beam width, quality;
    and the replicas serving over time as (time_ms, replicas)."""

    planned_ms_N: np.ndarray
    answered_ms_N: np.ndarray
    source_N: np.ndarray
    width_N: np.ndarray
    quality_N: np.ndarray
    value_N: np.ndarray
    deadline_ms: float
    rung_changes: int
    replicas: tuple[tuple[float, int], ...]

    @property
    def in_deadline_N(self) -> np.ndarray:
        """Whether each request got a model answer or a marked fallback in time."""
        with np.errstate(invalid="ignore"):
            in_time_N: np.ndarray = self.answered_ms_N - self.planned_ms_N <= self.deadline_ms
        in_time_N = in_time_N & (self.source_N != SHED)
        return in_time_N

    def figures(self) -> dict[str, float]:
        """Shares of all requests sent; `value` is value x quality answered in time over value sent."""
        in_time_N = self.in_deadline_N
        model_N = in_time_N & (self.source_N == MODEL)
        latency = (self.answered_ms_N - self.planned_ms_N)[self.source_N != SHED]
        served = float((self.value_N * self.quality_N)[in_time_N].sum())
        return {
            "requests": float(len(in_time_N)),
            "in_deadline": float(in_time_N.mean()),
            "model_in_deadline": float(model_N.mean()),
            "fallback": float((self.source_N == FALLBACK).mean()),
            "shed": float((self.source_N == SHED).mean()),
            "value": served / float(self.value_N.sum()),
            "model_value": float((self.value_N * self.quality_N)[model_N].sum()) / float(self.value_N.sum()),
            "mean_width": float(np.nanmean(self.width_N)) if np.isfinite(self.width_N).any() else math.nan,
            "p50_ms": float(np.percentile(latency, 50)) if len(latency) else math.nan,
            "p99_ms": float(np.percentile(latency, 99)) if len(latency) else math.nan,
            "rung_changes": float(self.rung_changes),
            "replica_seconds": self.replica_seconds(),
        }

    def replica_seconds(self) -> float:
        """Replicas x seconds until the last arrival, those that are starting not counted."""
        end = float(self.planned_ms_N[-1])
        times = [min(time, end) for time, _ in self.replicas] + [end]
        return sum(n * (b - a) for (_, n), a, b in zip(self.replicas, times[:-1], times[1:], strict=True)) / 1000.0
