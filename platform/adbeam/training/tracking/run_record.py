"""The folder of a run: what it was (config, seed, commit, versions, when) and its metrics as Parquet.

The driver writes it beside the checkpoints. A run that is resumed goes on in its own folder: the steps it takes again
replace those it had taken before.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adbeam import artifacts
from adbeam.training.tracking.trackers import Tracker

RECORD, METRICS = "run.json", "metrics.parquet"
PACKAGES = ("adbeam", "torch", "ray", "deepspeed", "numpy", "pyarrow")

Row = dict[str, float]


class RunRecord:
    """The driver's record of one run: called with each row, closed with how it ended."""

    def __init__(self, folder: Path, config: Mapping[str, Any], seed: int, trackers: list[Tracker]) -> None:
        self.folder, self._trackers = folder, trackers
        folder.mkdir(parents=True, exist_ok=True)
        self._rows = read_metrics(folder)
        self._record = {**read_record(folder), **_facts(config, seed), "status": "running"}
        self._record.setdefault("first_started", self._record["started"])
        self._record["starts"] = self._record.get("starts", 0) + 1
        self._write()

    def __call__(self, row: Row) -> None:
        """Keep a row and hand it to the trackers."""
        self._rows = [kept for kept in self._rows if kept["step"] < row["step"]] + [dict(row)]
        _write_metrics(self.folder, self._rows)
        metrics = {key: value for key, value in row.items() if key != "step"}
        for tracker in self._trackers:
            tracker.log(int(row["step"]), metrics)

    def complete(self, rows: list[Row]) -> None:
        """The rows that the run itself kept: a driver that was killed may have missed some."""
        if rows:
            self._rows = [dict(row) for row in rows]
            _write_metrics(self.folder, self._rows)

    def close(self, status: str) -> None:
        """Say how the run ended: "finished", "stopped" or "failed"."""
        self._record |= {"status": status, "ended": _now()}
        self._write()
        for tracker in self._trackers:
            tracker.close(status)

    def _write(self) -> None:
        artifacts.write_json(self.folder / RECORD, self._record)


def read_record(folder: Path) -> dict[str, Any]:
    """What `run.json` says; nothing where there is none."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return record
    except (OSError, ValueError):
        return {}


def read_metrics(folder: Path) -> list[Row]:
    """The rows so far, in the order of their steps."""
    path = folder / METRICS
    return pq.read_table(path).to_pylist() if path.is_file() else []


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    names: dict[str, Any] = {}
    for key, value in values.items():
        names |= flat(value, f"{before}{key}.") if isinstance(value, dict) and value else {before + key: value}
    return names


def commit() -> str | None:
    """The git commit of the working folder, if it is a checkout."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return answer.stdout.strip() or None


def _write_metrics(folder: Path, rows: list[Row]) -> None:
    """A reader sees the old file or the new one."""
    partial = folder / f".{METRICS}.partial"
    pq.write_table(pa.Table.from_pylist(rows), partial)
    os.replace(partial, folder / METRICS)


def _facts(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    return {
        "started": _now(),
        "commit": commit(),
        "seed": seed,
        "command": " ".join(sys.argv),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "machine": {"host": platform.node(), "cores": os.cpu_count(), "system": platform.platform()},
        "config": dict(config),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
