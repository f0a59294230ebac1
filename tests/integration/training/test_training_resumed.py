"""Training in this process that stops and goes on: interrupts, damage, signals, another ZeRO stage."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.training.curves import CURVE_TOLERANCE, Recorder, curve, plain_curve

from adbeam.config import Config
from adbeam.errors import UserError
from adbeam.training import launch, train
from adbeam.training.guards import preemption
from adbeam.training.tracking import progress
from adbeam.training.tracking.runs import find_runs


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, and inside an epoch: weights, optimiser, data and random numbers all resume."""
    config = configure({"checkpoint_interval_steps": 6}, model={"dropout": 0.2})
    show = progress.Printer.__call__

    def stop_at_nine(self: progress.Printer, row: progress.Row) -> None:
        show(self, row)
        if row["step"] == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(progress.Printer, "__call__", stop_at_nine)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert [path.name for path in tmp_path.glob("work/training_runs/*/checkpoints/step_*")] == [
        "step_00000006_world1_zero1"
    ]
    steps: list[float] = []
    monkeypatch.setattr(launch, "Printer", lambda total: Recorder(steps))
    resumed = curve(config)
    assert steps == list(range(7, 21))
    monkeypatch.undo()
    undisturbed = configure({"checkpoint_interval_steps": 100}, model={"dropout": 0.2}, name="other")
    assert resumed == curve(undisturbed)


def test_a_checkpoint_that_is_damaged_is_passed_over(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure({"checkpoint_interval_steps": 3})

    def stop_at_eight(self: progress.Printer, row: progress.Row) -> None:
        if row["step"] == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(progress.Printer, "__call__", stop_at_eight)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    newest = max(tmp_path.glob("work/training_runs/*/checkpoints/step_*"))
    assert newest.name.startswith("step_00000006")
    damaged = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    steps: list[float] = []
    monkeypatch.setattr(launch, "Printer", lambda total: Recorder(steps))
    train(config)
    assert steps == list(range(4, 21))


@pytest.mark.parametrize(("before", "after"), [(1, 2), (1, 3), (3, 1), (0, 1), (0, 3), (2, 0), (3, 0)])
def test_another_zero_stage_takes_over_a_run(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    """One stage to step 6, then another takes over: the curve of plain torch all the way."""
    config = configure({"zero_stage": before, "checkpoint_interval_steps": 6, "max_steps": 12})

    def stop_at_seven(self: progress.Printer, row: progress.Row) -> None:
        if row["step"] == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(progress.Printer, "__call__", stop_at_seven)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    steps: list[float] = []
    monkeypatch.setattr(launch, "Printer", lambda total: Recorder(steps))
    changed = configure({"zero_stage": after, "checkpoint_interval_steps": 100, "max_steps": 12})
    assert curve(changed) == pytest.approx(plain_curve(config), rel=CURVE_TOLERANCE)
    assert steps == list(range(7, 13))


def test_in_bf16_stage_zero_is_not_taken_over(configure: Callable[..., Config]) -> None:
    """DeepSpeed keeps its float32 copies there in a form of its own; the setting to change is named."""
    config = configure({"zero_stage": 0, "dtype": "bf16", "checkpoint_interval_steps": 3, "max_steps": 6})
    train(config)
    (Path(config.work_dir) / "training" / "manifest.json").unlink()
    last = max((Path(config.work_dir) / "training_runs").glob("*/checkpoints/step_*"))
    shutil.rmtree(last)
    with pytest.raises(UserError, match=r"training\.zero_stage: .*in bf16 stage 0 cannot be changed"):
        train(configure({"zero_stage": 1, "dtype": "bf16", "checkpoint_interval_steps": 3, "max_steps": 6}))


def test_sigterm_saves_a_checkpoint_and_the_same_command_goes_on(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure({"checkpoint_interval_steps": 1000})
    monkeypatch.setattr(preemption, "ASK_SECONDS", 0.0)
    show = progress.Printer.__call__

    def terminate_at_seven(self: progress.Printer, row: progress.Row) -> None:
        show(self, row)
        if row["step"] == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Printer, "__call__", terminate_at_seven)
        with pytest.raises(UserError, match=r"SIGTERM after step (7|8)"):
            train(config)
    (run,) = find_runs([tmp_path / "work"])
    assert run.status == "stopped" and run.step in (7, 8)
    resumed = curve(config)
    (run,) = find_runs([tmp_path / "work"])
    assert run.status == "finished" and run.step == 20 and run.metrics["loss"] == resumed[-1]
    assert resumed == curve(configure({"checkpoint_interval_steps": 1000}, name="other"))
