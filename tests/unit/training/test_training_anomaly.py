"""What counts as an anomalous step, and when such steps end a run."""

from __future__ import annotations

import math

import pytest

from adbeam.training.config import AnomalyConfig
from adbeam.training.guards.anomaly import FEWEST, REMEMBERED, AnomalyGuard, LossNotFinite


def guard(skip_steps: int = 2, loss_jump: float | None = 3.0) -> AnomalyGuard:
    watched = AnomalyGuard(AnomalyConfig(skip_steps=skip_steps, loss_jump=loss_jump), [], 0)
    for _ in range(FEWEST):
        watched.good(1.0)
    return watched


def test_a_jump_is_measured_against_the_usual_loss() -> None:
    assert guard().of_loss(20, 2.9) is None
    assert "loss of step 21 is 3.1, 3.1 times" in (guard().of_loss(20, 3.1) or "")
    assert guard(loss_jump=None).of_loss(20, 1e9) is None
    young = AnomalyGuard(AnomalyConfig(skip_steps=1, loss_jump=3.0), [1.0] * (FEWEST - 1), 0)
    assert young.of_loss(3, 50.0) is None, "a few losses say nothing about what is usual"


def test_skipped_steps_in_a_row_end_the_run() -> None:
    watched = guard(skip_steps=2)
    assert watched.of_loss(1, math.nan) and watched.of_gradient(2, math.inf)
    with pytest.raises(LossNotFinite, match="loss of step 4 is inf"):
        watched.of_loss(3, math.inf)


def test_a_good_step_in_between_starts_the_count_again() -> None:
    watched = guard(skip_steps=1)
    for step in range(5):
        assert watched.of_loss(step, math.nan)
        watched.good(1.0)
    assert watched.skipped == 5


def test_the_memory_is_short_and_belongs_to_the_state() -> None:
    losses: list[float] = []
    watched = AnomalyGuard(AnomalyConfig(), losses, 3)
    for loss in range(2 * REMEMBERED):
        watched.good(float(loss))
    assert losses == [float(loss) for loss in range(REMEMBERED, 2 * REMEMBERED)]
    assert watched.skipped == 3
