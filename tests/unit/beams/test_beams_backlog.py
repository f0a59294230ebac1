"""The queue as arithmetic, and the rate at which it fills."""

from __future__ import annotations

import numpy as np
import pytest

from adbeam.beams.arrival_rate import ArrivalRate
from adbeam.beams.backlog import Backlog, Pace, QueuedRequest, finish_ms


def test_under_overload_whole_batches_go_before_a_few_urgent_requests() -> None:
    pace = Pace(fixed_ms=10.0, request_ms=1.0, batch=20)
    queue = [QueuedRequest(0.0, 15.0)] * 3 + [QueuedRequest(0.0, 32.0)] * 30
    backlog = Backlog.of(queue, 0.0, 0.0, True)
    assert not backlog.drains(pace)
    dropped = backlog.unservable(pace)
    assert dropped >= {0, 1, 2} and len(dropped) == 13  # a batch of 20 ends after 30 ms, the next one too late
    assert backlog.without(dropped).first_batch(pace) == 20
    alone = Backlog.of([QueuedRequest(0.0, 5.0)], 0.0, 0.0, True)
    assert alone.unservable(pace) == {0}


def test_finish_times_are_those_of_whole_batches() -> None:
    pace = Pace(fixed_ms=1.0, request_ms=2.0, batch=3)
    assert finish_ms(7, pace, first=2).tolist() == [5, 5, 12, 12, 12, 17, 17]


def test_giving_up_keeps_the_largest_total_value() -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        count = 7
        deadlines, values = random.uniform(1, 9, count), random.uniform(1, 5, count)
        queue = [QueuedRequest(0.0, d, v) for d, v in zip(deadlines, values, strict=True)]
        backlog = Backlog.of(queue, 0.0, 0.0, True)
        dropped = backlog.unservable(Pace(0.0, 1.0, 1))
        kept = sum(backlog.value_Q[place] for place in range(count) if place not in dropped)
        assert kept == pytest.approx(_best_value(backlog.slack_ms_Q, backlog.value_Q))


def _best_value(slack_Q: np.ndarray, value_Q: np.ndarray) -> float:
    """Brute force over subsets: unit jobs by deadline."""
    best = 0.0
    for mask in range(1 << len(slack_Q)):
        chosen = [i for i in range(len(slack_Q)) if mask >> i & 1]
        if all(end + 1 <= slack_Q[i] for end, i in enumerate(chosen)):
            best = max(best, float(sum(value_Q[i] for i in chosen)))
    return best


def test_the_rate_is_calm_under_steady_load_and_quick_after_a_step() -> None:
    random = np.random.default_rng(1)
    rate = ArrivalRate((0.1, 0.5, 2.0, 8.0), 0.0)
    estimates = []
    times = np.cumsum(random.exponential(10.0, 3000))
    for time_ms in times:
        rate.arrived(time_ms)
        if time_ms > 10_000:
            estimates.append(rate.per_second(time_ms))
    assert np.mean(np.abs(np.array(estimates) / 100 - 1) < 0.15) > 0.97
    end = times[-1]
    for time_ms in end + np.arange(1, 101):
        rate.arrived(time_ms)
    assert rate.per_second(end + 100) > 600
    assert rate.per_second(end + 100 + 700) < 50


def test_the_rate_forgets_everything_after_a_long_silence() -> None:
    rate = ArrivalRate((0.1, 0.5), 0.0)
    rate.arrived(0.0, 1000)
    assert rate.per_second(1e7) == 0
