"""The generated log is what `prepare` takes, figures follow from runs, and a benchmark that was stopped goes on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from adbeam.config import Config
from adbeam.logs import pipeline
from benchmarks.prepare import run
from benchmarks.prepare.generate import TEST_FROM, VALIDATION_FROM, LogSize, write_log
from benchmarks.rig.memory import PeakMemory

SIZE = LogSize(events=5000, users=300, ads=100)


def test_the_log_has_bad_and_repeated_rows_and_all_of_it_is_accounted_for(tmp_path: Path) -> None:
    log = write_log(SIZE, tmp_path)
    events = pq.read_table(log / "parts")
    bad = pc.sum(pc.equal(events["action"], "unknown word")).as_py()
    tables = {"events": {"path": str(log / "parts")}, "catalogue": {"path": str(log / "catalogue")}}
    split = {"by": "time", "validation_from": VALIDATION_FROM, "test_from": TEST_FROM}
    logs = {"source": "files", "files": tables, "split": split}
    account = pipeline.run(Config.parse({"work_dir": str(tmp_path / "out"), "logs": logs}), in_process=True).account
    assert (account["rows_in"], account["quarantined"]) == (5000, bad)
    assert bad > 0 and account["duplicates"] >= 45  # of 50 repeated rows some are bad
    assert account["kept"] == 5000 - bad - account["duplicates"]
    assert all(account["splits"].values())


def test_a_log_is_written_once(tmp_path: Path) -> None:
    log = write_log(SIZE, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in log.rglob("*")}
    assert write_log(SIZE, tmp_path) == log and {path: path.stat().st_mtime_ns for path in log.rglob("*")} == before


def test_figures_are_those_of_the_runs_so_far() -> None:
    runs = [
        {"engine": "adbeam", "events": 100, "cores": 1, "seconds": seconds, "peak_gib": seconds / 10}
        for seconds in (9.0, 10.0, 20.0)
    ]
    first = run.figures(runs, 100)
    assert first["prepare_events_per_second_core"] == 10 and first["prepare_peak_gib_worker"] == 2.0
    assert first["prepare_over_duckdb"] is None and first["rows_per_second_core"] is None
    runs += [
        {"engine": "duckdb", "events": 100, "cores": 1, "seconds": 8.0, "peak_gib": 1.0},
        {"engine": "polars", "events": 100, "cores": 1, "seconds": 4.0, "peak_gib": 1.0},
        {"engine": "adbeam", "events": 100, "cores": 2, "seconds": 5.0, "peak_gib": 1.0},
        {"engine": "adbeam", "events": 500, "cores": 1, "seconds": 51.0, "peak_gib": 1.0},
        {"engine": "rows", "events": 0, "cores": 1, "rate": 12_000.4, "peak_gib": 1.0},
    ]
    assert run.figures(runs, 100) == first | {
        "prepare_over_duckdb": 1.25,
        "prepare_over_polars": 2.5,
        "prepare_two_core_speedup": 2.0,
        "prepare_100m_over_20m": 5.1,
        "rows_per_second_core": 12_000,
    }


def test_only_missing_runs_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def child(module: str, arguments: list[str], cores: int) -> run.Run:
        made.append(arguments[0])
        return {"seconds": 2.0, "peak_gib": 0.5}

    monkeypatch.setattr(run, "_child", child)
    options = argparse.Namespace(folder=tmp_path, repeats=2, events=SIZE.events)
    book = run.RunBook(tmp_path / "runs.json")
    book.add({"engine": "adbeam", "events": SIZE.events, "cores": 1, "seconds": 4.0, "peak_gib": 0.5})
    for engine in ("adbeam", "duckdb"):
        run.measure(run.RunBook(tmp_path / "runs.json"), engine, SIZE, 1, options)
    assert made == ["adbeam", "duckdb", "duckdb"]
    again = run.RunBook(tmp_path / "runs.json")
    run.measure(again, "duckdb", SIZE, 1, options)
    assert len(made) == 3 and run.figures(again.runs, SIZE.events)["prepare_over_duckdb"] == 1.5


def test_the_largest_process_is_watched() -> None:
    held = bytearray(os.urandom(1 << 20)) * 40
    with PeakMemory(0.2, os.getpid(), max) as peak:
        while not peak.peak_bytes:
            pass
    assert peak.peak_bytes > len(held)
