"""The ladder and its costs."""

from __future__ import annotations

import pytest

from adbeam.beams.config import LadderConfig
from adbeam.beams.cost import BatchCost, CorrectedCost, beam_rows
from adbeam.beams.ladder import Ladder, Widths, generate_schedules, quality_by_widths
from adbeam.errors import UserError

FULL = (32, 64, 128)
COST = BatchCost(a_ms=1.0, c0_ms=1.0, c1_ms_per_row=0.04)


def test_rows_are_those_entering_each_step_and_the_ecpm_step() -> None:
    assert beam_rows((128, 256, 512)) == 1 + 128 + 256 + 512


def test_schedules_start_full_cut_early_levels_first_and_reach_the_floor() -> None:
    schedules = generate_schedules(FULL, LadderConfig(floor_share=0.125, min_final_width=8))
    assert schedules[0] == FULL
    assert len(set(schedules)) == len(schedules)
    assert (16, 32, 128) in schedules
    assert min(widths[-1] for widths in schedules) == 16
    for widths in schedules:
        assert widths[0] / 32 <= widths[-1] / 128 + 1e-9
        assert all(1 <= w <= full for w, full in zip(widths, FULL, strict=True))


def test_a_short_final_level_is_never_widened_by_the_floor() -> None:
    assert all(widths[-1] <= 4 for widths in generate_schedules((2, 4), LadderConfig(min_final_width=8)))


def test_only_pareto_rungs_stay_and_cost_and_quality_fall_together() -> None:
    quality: dict[Widths, float] = {
        FULL: 1.0, (16, 32, 128): 0.99, (32, 64, 64): 0.9, (16, 32, 64): 0.95, (4, 8, 16): 0.6, (8, 4, 16): 0.5
    }  # fmt: skip
    ladder = Ladder.build(FULL, COST, quality)
    assert [rung.widths for rung in ladder.rungs] == [FULL, (16, 32, 128), (16, 32, 64), (4, 8, 16)]
    assert ladder.full == 0
    costs = [rung.cost_ms for rung in ladder.rungs]
    assert costs == sorted(costs, reverse=True)


def test_full_width_stays_even_if_a_cheaper_rung_measured_better() -> None:
    ladder = Ladder.build(FULL, COST, {FULL: 0.5, (16, 32, 128): 0.55, (8, 16, 32): 0.4})
    assert ladder.rungs[0].widths == FULL
    assert ladder.rungs[1].quality == ladder.rungs[0].quality == 1.0
    assert ladder.rungs[2].quality == pytest.approx(0.8)


def test_thinning_keeps_both_ends() -> None:
    many = Ladder.build(FULL, COST, config=LadderConfig(max_rungs=99))
    few = Ladder.build(FULL, COST, config=LadderConfig(max_rungs=4))
    assert len(many) > 4 == len(few)
    assert few.rungs[0] == many.rungs[0]
    assert few.rungs[-1] == many.rungs[-1]


def test_off_peak_rungs_lie_above_full() -> None:
    ladder = Ladder.build(FULL, COST, config=LadderConfig(off_peak_bonus=1.6))
    assert ladder.full == 2
    assert ladder.rungs[0].widths == (51, 102, 205)
    assert ladder.rungs[ladder.full].widths == FULL
    assert ladder.widest_within(1e9) == 0
    assert ladder.widest_within(0) == ladder.floor


def test_quality_of_other_widths_is_refused() -> None:
    with pytest.raises(UserError, match="export"):
        Ladder.build(FULL, COST, {(1, 2, 3): 1.0})


def test_quality_is_read_from_a_bundle() -> None:
    assert quality_by_widths({"schedules": [{"widths": [1, 2], "quality": 0.5}]}) == {(1, 2): 0.5}
    assert quality_by_widths({}) is None


def test_a_cost_model_must_be_complete_and_positive() -> None:
    assert BatchCost.from_dict({"a_ms": 1, "c0_ms": 2, "c1_ms_per_row": 0.5}).batch_ms([2, 4]) == 1 + 2 * 2 + 0.5 * 6
    with pytest.raises(UserError, match="c1_ms_per_row"):
        BatchCost.from_dict({"a_ms": 1, "c0_ms": 2})
    with pytest.raises(UserError, match="coefficients"):
        BatchCost.from_dict({"a_ms": 1, "c0_ms": -2, "c1_ms_per_row": 0.5})


def test_one_stall_moves_nothing_but_a_slow_core_is_followed() -> None:
    corrected = CorrectedCost(COST, rungs=2)
    for _ in range(20):
        corrected.observe(10.0, 0, 10.0)
    corrected.observe(10.0, 0, 500.0)
    assert corrected.factor == pytest.approx(1.0)
    for _ in range(6):
        corrected.observe(10.0, 0, 20.0)
    assert corrected.request_ms(10, 0) > 1.7 * COST.request_ms(10)
    assert corrected.request_ms(10, 1) > 1.5 * COST.request_ms(10)


def test_the_correction_is_bounded() -> None:
    corrected = CorrectedCost(COST, rungs=1)
    for _ in range(200):
        corrected.observe(1.0, 0, 1e6)
    assert corrected.request_ms(10, 0) <= COST.request_ms(10) * 8 * 1.5
    for _ in range(200):
        corrected.observe(1.0, 0, 0.0)
    assert corrected.request_ms(10, 0) >= COST.request_ms(10) * 0.25 * 0.67


def test_a_rung_the_line_misses_is_corrected_alone() -> None:
    corrected = CorrectedCost(COST, rungs=2)
    for _ in range(300):
        corrected.observe(10.0, 0, 10.0)
        corrected.observe(10.0, 1, 13.0)
    ratio = corrected.request_ms(10, 1) / corrected.request_ms(10, 0)
    assert ratio == pytest.approx(1.3, rel=0.1)


def test_time_lost_between_batches_is_part_of_a_batch() -> None:
    corrected = CorrectedCost(COST, rungs=1)
    for _ in range(30):
        corrected.observe_pause(2.0)
    assert corrected.fixed_ms() == pytest.approx(COST.a_ms + 2.0, rel=0.01)
