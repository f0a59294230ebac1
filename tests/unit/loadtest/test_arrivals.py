"""Arrival schedules."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from adbeam.errors import UserError
from adbeam.loadtest import arrivals
from adbeam.loadtest.plan import LoadShape


def test_a_schedule_is_the_same_for_the_same_seed_and_rises() -> None:
    one, same, other = (arrivals.step(10, 10, 5, 10, 5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one[: len(other)], other[: len(one)])
    assert np.all(np.diff(one) >= 0)


def test_a_step_has_its_rates() -> None:
    times = arrivals.step(50, 10, before_seconds=20, during_seconds=20, after_seconds=20)
    counts = np.histogram(times, bins=[0, 20_000, 40_000, 60_000])[0]
    assert counts == pytest.approx([1000, 10_000, 1000], rel=0.15)


def test_a_ramp_rises_evenly() -> None:
    times = arrivals.ramp(10, 110, seconds=100)
    halves = np.histogram(times, bins=[0, 50_000, 100_000])[0]
    assert halves == pytest.approx([35 * 50, 85 * 50], rel=0.1)


def test_constant_arrivals_are_even() -> None:
    assert arrivals.constant(100, 1)[:3].tolist() == [0, 10, 20]


def test_counts_are_scaled_to_the_peak_and_missing_minutes_are_empty(tmp_path: Path) -> None:
    trace = tmp_path / "counts.csv.gz"
    rows = "period,count\n1998-05-12 06:00:00,100\n1998-05-12 06:01:00,1000\n1998-05-12 06:03:00,500\n"
    trace.write_bytes(gzip.compress(rows.encode()))
    assert arrivals.read_counts(trace).tolist() == [100, 1000, 0, 500]
    assert arrivals.read_counts(trace, "1998-05-12 06:01", "1998-05-12 06:03").tolist() == [1000, 0]
    times = arrivals.replay_counts(arrivals.read_counts(trace), seconds_per_count=1.0, peak_per_second=2000, seed=3)
    assert np.histogram(times, bins=[0, 1000, 2000, 3000, 4000])[0] == pytest.approx([200, 2000, 0, 1000], rel=0.2)
    with pytest.raises(UserError, match="another range"):
        arrivals.read_counts(trace, "2001-01-01 00:00")


def test_recorded_times_start_at_zero_and_play_faster(tmp_path: Path) -> None:
    trace = tmp_path / "times.csv"
    trace.write_text("TIMESTAMP,ContextTokens\n2023-11-16 18:17:04.0000000,1\n2023-11-16 18:17:03.5000000,2\n")
    assert arrivals.read_times(trace).tolist() == pytest.approx([0.0, 500.0])
    assert LoadShape(kind="times", trace=trace, speed=5).planned_ms().tolist() == pytest.approx([0.0, 100.0])


def test_bad_traces_and_rates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="period"):
        arrivals.read_counts(tmp_path / "other.csv")
    with pytest.raises(UserError, match="cannot read"):
        arrivals.read_times(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="rate"):
        arrivals.poisson(-1, 10)
    with pytest.raises(UserError, match="needs a trace"):
        LoadShape.parse({"kind": "counts"})
