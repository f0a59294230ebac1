"""A long step tells where it stands every few seconds off a terminal, and nothing on one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from adbeam.ray_data.progress import lasting, line, told


def slow(seconds: float) -> Iterator[int]:
    yield 30
    time.sleep(seconds)
    yield 70


def test_lines_come_while_a_part_takes_long_and_the_parts_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    parts = list(told(slow(0.5), 100, "encoding", size=lambda part: part, interval_seconds=0.05))
    assert parts == [30, 70]
    out, lines = capsys.readouterr()
    assert out == ""
    assert all(said.startswith("encoding: 30 of 100, ") and said.endswith(" s left") for said in lines.splitlines())
    assert len(lines.splitlines()) > 1


def test_a_quick_step_says_nothing_and_leaves_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(told(range(3), 3, "quick")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_step_in_one_piece_says_how_long_it_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    with lasting("fitting", interval_seconds=0.05):
        time.sleep(0.3)
    out, lines = capsys.readouterr()
    assert out == "" and set(lines.splitlines()) == {"fitting: 0 s so far"}
    with pytest.raises(ValueError, match="no luck"), lasting("broken", interval_seconds=0.01):
        raise ValueError("no luck")
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_fault_of_a_part_comes_through_and_ends_the_lines() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        list(told(broken(), 2, "broken", interval_seconds=0.01))
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_terminal_has_its_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(told(slow(0.1), 100, "encoding", interval_seconds=0.01)) == [30, 70]
    assert capsys.readouterr().err == ""


def test_a_line_has_what_is_done_the_rate_and_the_time_left() -> None:
    assert line("judging", 320, 4000, 20.0) == "judging: 320 of 4,000, 16.0 a second, about 230 s left"
    assert line("reading", 3200, None, 20.0) == "reading: 3,200, 160.0 a second"
    assert line("judging", 0, 4000, 20.0) == "judging: 0 of 4,000, 20 s so far"
