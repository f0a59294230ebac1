"""Workers die and world sizes change under a run: it goes on, with the curve of an undisturbed one."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.training.drivers import (
    CHECKPOINT_EVERY,
    DEADLINE_SECONDS,
    STEPS,
    assert_curve_is_that_of_one_process,
    start,
    steps_in,
    train_workers,
    wait_for_checkpoint,
    write_settings,
)
from tests.support.training.samples import write_training_sample


def lost_steps(steps: list[int]) -> int:
    """Steps that were taken twice; every step must have been taken."""
    assert set(steps) >= set(range(1, STEPS + 1))
    return max([0, *(before - after + 1 for before, after in pairwise(steps) if after <= before)])


@pytest.mark.parametrize("zero_stage", [1, *(pytest.param(stage, marks=pytest.mark.full) for stage in (0, 2, 3))])
def test_a_killed_worker_is_replaced(tmp_path: Path, zero_stage: int) -> None:
    write_training_sample(tmp_path)
    driver = start(write_settings(tmp_path, zero_stage=zero_stage), tmp_path / "first.log")
    wait_for_checkpoint(tmp_path, driver)
    victims = train_workers(driver)
    assert len(victims) == 2
    victims[zero_stage % 2].kill()
    assert max(steps_in(tmp_path / "first.log"), default=0) < STEPS, "the kill came too late"
    assert driver.wait(DEADLINE_SECONDS) == 0, (tmp_path / "first.log").read_text()
    assert lost_steps(steps_in(tmp_path / "first.log")) <= 2 * CHECKPOINT_EVERY
    assert_curve_is_that_of_one_process(tmp_path)


@pytest.mark.full
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, 1), (1, 2)),
        ((1, 3), (2, 1)),
        ((2, 2), (1, 3)),
        ((1, 0), (2, 0)),
        ((2, 3), (2, 1)),
        ((1, 0), (2, 1)),
        ((2, 2), (1, 0)),
    ],
    ids=str,
)
def test_another_world_and_stage_take_over_after_sigterm(
    tmp_path: Path, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """SIGTERM saves at once: nothing is lost whatever the interval; another layout then goes on with the same curve."""
    write_training_sample(tmp_path)
    steps = 4 * STEPS  # the signal is asked for every 5 s and must be heard before the end
    slow = {"checkpoint_interval_steps": 10_000, "gradient_accumulation": 4, "max_steps": steps}
    first = write_settings(tmp_path, "first.yaml", workers=before[0], zero_stage=before[1], **slow)
    driver = start(first, tmp_path / "first.log")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (steps_in(tmp_path / "first.log") or time.monotonic() > deadline):
        time.sleep(0.1)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(DEADLINE_SECONDS) == 2
    assert "stopped by SIGTERM" in (tmp_path / "first.log").read_text()
    last = steps_in(tmp_path / "first.log")[-1]
    assert last < steps, "the run was over before the signal"
    second = write_settings(tmp_path, "second.yaml", workers=after[0], zero_stage=after[1], **slow)
    again = start(second, tmp_path / "second.log")
    assert again.wait(DEADLINE_SECONDS) == 0, (tmp_path / "second.log").read_text()
    assert steps_in(tmp_path / "second.log")[0] == last + 1
    assert_curve_is_that_of_one_process(tmp_path, max_steps=steps)
