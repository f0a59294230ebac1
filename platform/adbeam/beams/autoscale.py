"""Autoscaling: how many replicas, from demand at full width, looked ahead by the time a replica needs to start.

A beam cut empties the queue, so ongoing requests hide the load; `arrival rate x full-width cost` does not. Pure: the
caller keeps the state and supplies the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adbeam.beams.config import AutoscaleConfig


@dataclass(frozen=True, slots=True)
class AutoscaleState:
    """What one decision leaves for the next. `samples` are (now_seconds, demand); times are None before the first
    use."""

    replicas: int
    samples: tuple[tuple[float, float], ...] = ()
    raised_at: float | None = None
    excess_since: float | None = None


def desired_replicas(
    demand_full_width: float, config: AutoscaleConfig, state: AutoscaleState, now_seconds: float
) -> tuple[int, AutoscaleState]:
    """Replicas wanted now, and the state for the next call.

    `demand_full_width` is the replicas' sum: how many would be busy if every arrival were decoded at full width. Up at
    once (after the cool-down) to what the extrapolated demand needs; down only after fewer have sufficed for the whole
    downscale cool-down. A demand that is not a finite number >= 0 (the signal is missing) leaves the count as it is.
    """
    if not math.isfinite(demand_full_width) or demand_full_width < 0:
        return _clip(state.replicas, config), AutoscaleState(state.replicas, state.samples, state.raised_at, None)
    samples = _recent((*state.samples, (now_seconds, demand_full_width)), now_seconds - config.look_back_seconds)
    ahead = demand_full_width + _trend(samples) * config.look_ahead_seconds
    wanted = _clip(_needed(ahead, config.target_utilisation), config)
    current = _clip(state.replicas, config)
    if wanted > current:
        if state.raised_at is not None and now_seconds - state.raised_at < config.upscale_cooldown_seconds:
            return current, AutoscaleState(current, samples, state.raised_at, None)
        return wanted, AutoscaleState(wanted, samples, now_seconds, None)
    fewer = _clip(_needed(ahead, config.target_utilisation * config.downscale_margin), config)
    if fewer >= current:
        return current, AutoscaleState(current, samples, state.raised_at, None)
    since = now_seconds if state.excess_since is None else state.excess_since
    if now_seconds - since < config.downscale_cooldown_seconds:
        return current, AutoscaleState(current, samples, state.raised_at, since)
    return fewer, AutoscaleState(fewer, samples, state.raised_at, None)


def _needed(demand: float, utilisation: float) -> int:
    return math.ceil(demand / utilisation - 1e-9)


def _clip(replicas: int, config: AutoscaleConfig) -> int:
    return min(max(replicas, config.min_replicas), config.max_replicas)


def _recent(samples: Sequence[tuple[float, float]], since: float) -> tuple[tuple[float, float], ...]:
    return tuple(sample for sample in samples if sample[0] >= since)


def _trend(samples: Sequence[tuple[float, float]]) -> float:
    """Rise of demand per second if both halves of the samples surely rise, else 0: a ramp is looked ahead; neither a
    step nor noise is."""
    half = len(samples) // 2
    return max(0.0, min(_sure_slope(samples[:half]), _sure_slope(samples[half:])))


def _sure_slope(samples: Sequence[tuple[float, float]]) -> float:
    """Demand per second by least squares, less two standard errors; 0 with fewer than four samples."""
    if len(samples) < 4:
        return 0.0
    time_s, demand = np.array(samples).T
    centred = time_s - time_s.mean()
    spread = float((centred**2).sum())
    if spread <= 0:
        return 0.0
    slope = float((centred * demand).sum()) / spread
    residual = demand - demand.mean() - slope * centred
    return slope - 2.0 * math.sqrt(float((residual**2).sum()) / (len(samples) - 2) / spread)
