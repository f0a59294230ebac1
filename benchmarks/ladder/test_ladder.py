"""The ladder's arithmetic: intervals over seeds and requests, and rows that build on each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.ladder.market import Bench
from benchmarks.ladder.rows import ROWS, Row, named
from benchmarks.ladder.run import interval, rspo_gains
from benchmarks.ladder_tune.run import weighed
from benchmarks.value_offline.run import paired_interval


def test_intervals_over_seeds_are_students() -> None:
    mean, low, high = interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert mean == 3 and high - mean == pytest.approx(2.776 * np.sqrt(2.5 / 5), rel=1e-3) == mean - low
    assert interval(np.array([0.2])) == (0.2, 0.2, 0.2)


def test_what_rspo_gains_on_a_row_is_paired_by_seed() -> None:
    rows = [row.name for row in ROWS if row.shown]
    markets = (100.0, 300.0, 250.0)  # revenue a request goes with the market; the lift over its cascade does not
    results = [
        {row: {"revenue": market * (1.3 if "rspo" in row else 1.1)} for row in rows} | {"cascade": {"revenue": market}}
        for market in markets
    ]
    gains = rspo_gains(results, rows)
    assert [gains[f"rspo_over_vsl_dpo{end}"] for end in ("", "_lo", "_hi")] == pytest.approx([0.2] * 3)
    assert "rspo_over_vsl_rspo" not in gains and rspo_gains(results, ["vsl"]) == {}


def test_intervals_over_requests_are_paired() -> None:
    rng = np.random.default_rng(0)
    difference_N = rng.normal(0.1, 0.2, size=(3, 400)).mean(axis=0)
    low, high = paired_interval(difference_N, np.ones(400))
    assert 0.08 < low < 0.1 < high < 0.12
    assert paired_interval(difference_N, np.full(400, 7.0)) == pytest.approx((low, high)), "only shares count"
    counts_N = np.where(np.arange(400) < 200, 1.0, 0.0)
    low, high = paired_interval(np.where(counts_N > 0, 0.3, -5.0), counts_N)
    assert (low, high) == pytest.approx((0.3, 0.3)), "a request without money says nothing of money"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_a_configuration_and_builds_on_one_of_its_shape(row: Row, tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0, 10, 5, 10)
    config = bench.config(row)
    if row.goes_on:
        start = bench.config(named(row.goes_on))
        assert start.model == config.model and not named(row.goes_on).shown
    if config.objectives.preference.method != "none":
        assert row.goes_on, "lists come from the model it goes on from"


def test_a_tried_weight_is_a_row_of_its_own(tmp_path: Path) -> None:
    bench, row = Bench(tmp_path, 0, 10, 5, 10), weighed("vsl_rspo", 3.0)
    assert row.name == "vsl_rspo_300"
    tried, shipped = bench.config(row).objectives, bench.config(named("vsl_rspo")).objectives
    assert (tried.preference.method, tried.preference.weight) == ("rspo", 300.0)
    assert shipped.preference.weight == 1000.0
