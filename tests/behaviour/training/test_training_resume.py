"""The training driver is killed half-way; the same command then finishes the run from its last checkpoint."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.training.drivers import (
    CHECKPOINT_EVERY,
    DEADLINE_SECONDS,
    STEPS,
    assert_curve_is_that_of_one_process,
    start,
    steps_in,
    wait_for_checkpoint,
    write_settings,
)
from tests.support.training.samples import write_training_sample


def test_a_killed_driver_loses_at_most_one_checkpoint_interval(tmp_path: Path) -> None:
    write_training_sample(tmp_path)
    settings = write_settings(tmp_path)

    driver = start(settings, tmp_path / "first.log")
    saved = wait_for_checkpoint(tmp_path, driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not (tmp_path / "training").exists()
    reached = max([saved, *steps_in(tmp_path / "first.log")])  # what was saved may not have been printed yet
    assert reached < STEPS, "the run was over before the kill"

    second = start(settings, tmp_path / "second.log")
    assert second.wait(DEADLINE_SECONDS) == 0, (tmp_path / "second.log").read_text()
    steps = steps_in(tmp_path / "second.log")
    assert steps[0] > saved, "the second run began again"
    assert steps[0] >= reached - CHECKPOINT_EVERY
    assert steps == list(range(steps[0], STEPS + 1))
    assert_curve_is_that_of_one_process(tmp_path)
