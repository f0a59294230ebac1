"""`adbeam prepare` against DuckDB and Polars, its memory, how it scales, and the rate of training rows.

    python -m benchmarks.prepare [--parts engines cores size rows] [--events 2e7] [--repeats 3] [--rows-of WORK_DIR]

Every run is a process of its own, pinned to its cores, over files that have been read once before; what counts is the
median. Runs are kept in FOLDER/runs.json as they end: a benchmark that was stopped goes on, and parts may be run one
by one. DuckDB and Polars come with the extra `bench`. The whole takes an hour at 20 M events.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.prepare.generate import LogSize, write_log
from benchmarks.rig.memory import PeakMemory
from benchmarks.rig.report import commit, report, write

NAME = "prepare"
PARTS = ("engines", "cores", "size", "rows")
TIMES_LARGER = 5
MEMORY_SECONDS = 0.2
"""How often the memory of workers is looked at, of runs on one core, beside it: a look takes a fifth of a core."""
ONE_CORE = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}

Run = dict[str, Any]
"""What was run (`engine`, `events`, `cores`), its `seconds` and `peak_gib`, or its `rate`."""


def main() -> None:
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    book = RunBook(options.folder / "runs.json")
    for engine, size, cores in wanted(options):
        measure(book, engine, size, cores, options)
        write(NAME, figures(book.runs, options.events), {"runs": book.runs})
    if "rows" in options.parts:
        for _ in range(options.repeats - book.count("rows", 0, 1)):
            book.add(_child("benchmarks.prepare.rows", [str(options.rows_of)], 1) | _what("rows", 0, 1))
    report(NAME, figures(book.runs, options.events), {"runs": book.runs})


class RunBook:
    """The runs so far, on disk after each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.runs: list[Run] = json.loads(path.read_text()) if path.is_file() else []

    def count(self, engine: str, events: int, cores: int) -> int:
        """How many of a kind there are."""
        return len(_of(self.runs, engine, events, cores))

    def add(self, run: Run) -> None:
        """Keep a run, with the commit that it is of."""
        self.runs.append(run | {"commit": commit()})
        self._path.write_text(json.dumps(self.runs, indent=1) + "\n")


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, LogSize, int]]:
    """(engine, log, cores) of the parts that were asked for."""
    size = LogSize(options.events, options.events // 20, options.events // 40)
    if "engines" in options.parts:
        yield from ((engine, size, 1) for engine in ("adbeam", "duckdb", "polars"))
    if "cores" in options.parts:
        yield from (("adbeam", size, cores) for cores in (1, 2))
    if "size" in options.parts:
        yield "adbeam", size, 1
        yield "adbeam", LogSize(TIMES_LARGER * size.events, TIMES_LARGER * size.users, size.ads), 1


def measure(book: RunBook, engine: str, size: LogSize, cores: int, options: argparse.Namespace) -> None:
    """Run what is missing to `repeats`."""
    missing = options.repeats - book.count(engine, size.events, cores)
    if missing <= 0:
        return
    log = write_log(size, options.folder)
    out = options.folder / "out"
    for _ in range(missing):
        _warm(log)
        shutil.rmtree(out, ignore_errors=True)
        answer = _child("benchmarks.prepare.engines", [engine, str(log), str(out.resolve())], cores)
        book.add(_what(engine, size.events, cores) | answer)
    shutil.rmtree(out, ignore_errors=True)


def figures(runs: list[Run], events: int) -> dict[str, float | None]:
    """Those that the runs so far tell; None for the others."""
    one, two = (_median(runs, "adbeam", events, cores) for cores in (1, 2))
    peaks = [run["peak_gib"] for run in _of(runs, "adbeam", events, 1)]
    rates = [run["rate"] for run in _of(runs, "rows", 0, 1)]
    return {
        "prepare_over_duckdb": _ratio(one, _median(runs, "duckdb", events, 1)),
        "prepare_over_polars": _ratio(one, _median(runs, "polars", events, 1)),
        "prepare_peak_gib_worker": round(max(peaks), 2) if peaks else None,
        "prepare_events_per_second_core": round(events / one) if one else None,
        "prepare_100m_over_20m": _ratio(_median(runs, "adbeam", TIMES_LARGER * events, 1), one),
        "prepare_two_core_speedup": _ratio(one, two),
        "rows_per_second_core": round(statistics.median(rates)) if rates else None,
    }


def _child(module: str, arguments: list[str], cores: int) -> Run:
    """Run a module on its first `cores` cores; its last line, and of one core the most that a process of it held."""
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    if len(chosen) < cores:
        raise SystemExit(f"{cores} cores are wanted and {len(chosen)} are here: leave `cores` out of --parts")
    command = ["taskset", "-c", ",".join(map(str, chosen)), sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **ONE_CORE, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    peak = PeakMemory(MEMORY_SECONDS, process.pid, max)
    with process, peak if cores == 1 else nullcontext():
        printed = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}; the runs before it are kept")
    answer: Run = json.loads(printed.splitlines()[-1])
    return answer | ({"peak_gib": round(peak.peak_bytes / 2**30, 3)} if cores == 1 else {})


def _warm(log: Path) -> None:
    for path in sorted(log.rglob("*.parquet")):
        path.read_bytes()


def _what(engine: str, events: int, cores: int) -> Run:
    return {"engine": engine, "events": events, "cores": cores}


def _of(runs: list[Run], engine: str, events: int, cores: int) -> list[Run]:
    return [run for run in runs if (run["engine"], run["events"], run["cores"]) == (engine, events, cores)]


def _median(runs: list[Run], engine: str, events: int, cores: int) -> float | None:
    found = [run["seconds"] for run in _of(runs, engine, events, cores)]
    return statistics.median(found) if found else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return round(above / below, 2) if above and below else None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--events", type=lambda text: int(float(text)), default=20_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-prepare"), help="logs and runs so far")
    parser.add_argument("--rows-of", type=Path, default=Path("runs/quickstart"), help="a prepared, tokenized work_dir")
    return parser.parse_args()
