"""What a batch costs, fitted to timed batches."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from adbeam.beams.cost import BatchCost, CorrectedCost, beam_rows, fit


def test_cost_is_recovered_from_times_that_follow_it() -> None:
    truth = BatchCost(3.0, 0.5, 0.02)
    shapes = [(size, beam_rows(widths)) for size in (1, 2, 8) for widths in ((4, 8, 16), (64, 128, 128))]
    found = fit(shapes, [truth.batch_ms([rows] * size) for size, rows in shapes])
    assert asdict(found) == pytest.approx(asdict(truth), abs=1e-6)
    assert BatchCost.from_dict(asdict(found)) == found
    assert found.batch_ms([29, 321]) == pytest.approx(3 + 1 + 0.02 * (29 + 321))


def test_cost_never_has_a_negative_part() -> None:
    found = fit([(1, 10), (1, 100), (8, 10), (8, 100)], [5.0, 4.0, 20.0, 18.0])
    assert min(found.a_ms, found.c0_ms, found.c1_ms_per_row) >= 0


def test_time_without_a_processor_is_no_cost_of_a_rung_but_counts_for_the_load() -> None:
    told, untold = (CorrectedCost(BatchCost(3.0, 0.5, 0.02), rungs=2) for _ in range(2))
    for _ in range(400):
        for rung in (0, 1):
            told.observe(10.0, rung, 30.0, off_cpu_ms=20.0)
    for cost in (told, untold):
        cost.observe(10.0, 1, 200.0, off_cpu_ms=190.0 if cost is told else 0.0)
    own_ms = told.base.request_ms(100)
    assert told.steady_factor == pytest.approx(3.0, rel=0.1)
    assert told.request_ms(100, 0, steady=True) == told.request_ms(100, 1, steady=True)
    assert told.request_ms(100, 1) == pytest.approx(3.0 * own_ms, rel=0.1)  # deadlines are kept by the clock
    assert untold.request_ms(100, 1, steady=True) > 1.02 * untold.request_ms(100, 0, steady=True)


def test_one_pause_of_the_process_hardly_moves_the_steady_cost() -> None:
    told, untold = (CorrectedCost(BatchCost(3.0, 0.5, 0.02), rungs=1) for _ in range(2))
    for cost, off_cpu_ms in ((told, 60.0), (untold, 0.0)):
        for _ in range(50):
            cost.observe(10.0, 0, 10.0)
        cost.observe(10.0, 0, 70.0, off_cpu_ms)
    assert 1.0 < told.steady_factor < 1.035 < untold.steady_factor


def test_a_batch_that_was_off_the_processor_all_the_time_leaves_the_cost_within_its_bounds() -> None:
    cost = CorrectedCost(BatchCost(3.0, 0.5, 0.02), rungs=1)
    for _ in range(500):
        cost.observe(10.0, 0, 1e4, off_cpu_ms=1e4)
    cost.observe(10.0, 0, 0.0, off_cpu_ms=0.0)
    assert 0.25 <= cost.steady_factor <= 8.0
