"""What a batch costs, fitted to timed batches."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from adbeam.beams.cost import BatchCost, beam_rows, fit


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
