"""The capacity of an endpoint at full width: the highest rate at which such answers still meet the deadline."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adbeam.errors import UserError
from adbeam.loadtest.arrivals import ramp
from adbeam.loadtest.report import what_was_measured
from adbeam.loadtest.runner import LoadTarget, Sent, bodies, run_load
from adbeam.serving.client import call
from adbeam.serving.deploy.local import Endpoint
from adbeam.serving.deploy.policy import read_policy

RAMP_SECONDS, WINDOW_MS = 15.0, 3000.0
FIRST_SHARE, LAST_SHARE = 0.2, 1.5
"""The ramp begins and ends at these shares of what the replica's cost model expects."""
KEPT_SHARE = 0.95
RISES = 2
FULL_WIDTH = {"policy": "static", "answer_late_early": True}
FORCE_SECONDS = 60.0


@dataclass(frozen=True)
class Capacity:
    """Requests a second at full width. Where no load was kept inside the deadline the rate is what the decode times
    allow, `kept` is False, and `measured` says in words what the rises showed."""

    per_second: float
    kept: bool
    measured: str


def measure_capacity(endpoint: Endpoint, users: Sequence[str], target: LoadTarget) -> float:
    """The rate of `find_capacity`, for those whose figures need one that was kept. Raises UserError where none is."""
    found = find_capacity(endpoint, users, target)
    if not found.kept:
        raise UserError(f"at full width no load is answered inside the deadline: {found.measured}", field="deadline_ms",
                        value=target.deadline_ms, remedy="allow more time, or fewer beams")  # fmt: skip
    return found.per_second


def find_capacity(endpoint: Endpoint, users: Sequence[str], target: LoadTarget) -> Capacity:
    """Requests a second, by a rising load at full width; a policy for that stays in force.

    The highest rate of a WINDOW_MS in which KEPT_SHARE of the requests are answered at full width inside the deadline,
    the better of two rises: what else runs on the machine for a moment must not count, nor do decodes of requests that
    are late already. Where none is, the rate that the replica derives from the decode times of these rises.
    """
    put_in_force(endpoint, FULL_WIDTH)
    expected = decoded_rate(endpoint)
    planned_ms = ramp(FIRST_SHARE * expected, LAST_SHARE * expected, RAMP_SECONDS)
    runs = [run_load(planned_ms, bodies(users, target, len(planned_ms)), target) for _ in range(RISES)]
    found = max(best_rate(run.requests, target.deadline_ms) for run in runs)
    measured = what_was_measured([entry for run in runs for entry in run.requests], target.deadline_ms)
    return Capacity(found or decoded_rate(endpoint), found > 0.0, measured)


def decoded_rate(endpoint: Endpoint) -> float:
    """Requests a second at full width as a replica's cost model has it: timed decodes, corrected by recent ones."""
    return float(_status(endpoint)["full_width_capacity_per_second"])


def best_rate(requests: Sequence[Sent], deadline_ms: float) -> float:
    """The highest rate a second of a window that is kept; 0 when none is. `requests` in planned order."""
    planned_ms = np.array([entry.planned_ms for entry in requests])
    good = np.array([
        entry.source == "model" and entry.widths == entry.full_widths and entry.latency_ms <= deadline_ms
        for entry in requests
    ])  # fmt: skip
    best = 0.0
    for first, start_ms in enumerate(planned_ms):
        end = int(np.searchsorted(planned_ms, start_ms + WINDOW_MS))
        if start_ms + WINDOW_MS <= planned_ms[-1] and good[first:end].mean() >= KEPT_SHARE:
            best = max(best, 1000.0 * (end - first) / WINDOW_MS)
    return best


def put_in_force(endpoint: Endpoint, policy: str | Mapping[str, Any]) -> None:
    """Put a beam policy in force and wait until the replica says so; raises UserError when it does not."""
    wanted = read_policy(policy if isinstance(policy, str) else dict(policy))
    endpoint.reconfigure(policy=policy)
    end = time.monotonic() + FORCE_SECONDS
    while _status(endpoint)["policy_settings"] != wanted.model_dump(mode="json"):
        if time.monotonic() > end:
            raise UserError("the policy does not come into force", field="policy", value=wanted.policy)
        time.sleep(0.2)


def _status(endpoint: Endpoint) -> dict[str, Any]:
    """A replica's status. After a load over its capacity a proxy may hold the replica for lost, for a moment."""
    end = time.monotonic() + FORCE_SECONDS
    while True:
        status, answer = call(endpoint.url, "GET", "/v1/status", timeout_seconds=FORCE_SECONDS)
        if status == 200:
            known: dict[str, Any] = answer
            return known
        if time.monotonic() > end:
            raise UserError(f"the endpoint answered HTTP {status} when asked for its status", field="url",
                            value=endpoint.url, remedy="see the replica's log")  # fmt: skip
        time.sleep(0.2)
