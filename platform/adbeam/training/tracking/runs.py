"""`adbeam runs`: runs side by side: how they ended, their last metrics, and what was set differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adbeam.errors import UserError
from adbeam.training.tracking.run_record import RECORD, flat, read_metrics, read_record
from adbeam.workdir import TRAINING_RUNS

SHOWN = ("loss", "sid", "requests_per_second", "elapsed_seconds")


@dataclass(frozen=True)
class Run:
    """One run as its folder tells."""

    name: str
    status: str
    started: str
    seed: int | None
    commit: str | None
    step: int
    metrics: dict[str, float]
    """Of the last report."""
    config: dict[str, Any]
    """Settings by their dotted names."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def find_runs(work_dirs: Sequence[Path]) -> list[Run]:
    """The runs under these folders, oldest first."""
    folders = [
        path.parent for work_dir in work_dirs for path in sorted(Path(work_dir).rglob(f"{TRAINING_RUNS}/*/{RECORD}"))
    ]
    return sorted((_read(folder) for folder in folders), key=lambda run: run.started)


def choose(runs: Sequence[Run], names: Sequence[str]) -> list[Run]:
    """The runs of these names, or of unambiguous beginnings; all without names. Raises UserError."""
    if not names:
        return list(runs)
    chosen = []
    for name in names:
        found = [run for run in runs if run.name.startswith(name)]
        if len(found) != 1:
            raise UserError(
                f"{len(found)} runs have this name", field="runs", value=name, remedy="`adbeam runs` lists the names"
            )
        chosen.append(found[0])
    return chosen


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Settings that are not the same in all of the runs: {dotted name: value in each run}."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    values = {key: [run.config.get(key) for run in runs] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def lines(runs: Sequence[Run]) -> list[str]:
    """A table with one run a line, then the settings in which they differ."""
    if not runs:
        return ["no runs"]
    header = ["run", "status", "started", "seed", "commit", "step", *SHOWN]
    rows = [header, *([*_facts(run), *(_number(run.metrics.get(key)) for key in SHOWN)] for run in runs)]
    table = _aligned(rows)
    changed = differing(runs)
    if changed:
        table += ["", *_aligned([["setting", *(run.name for run in runs)], *_settings(changed)])]
    return table


def _facts(run: Run) -> list[str]:
    return [run.name, run.status, run.started[:16], str(run.seed), (run.commit or "")[:9], str(run.step)]


def _settings(changed: dict[str, list[Any]]) -> list[list[str]]:
    return [[key, *map(str, values)] for key, values in changed.items()]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _read(folder: Path) -> Run:
    record, rows = read_record(folder), read_metrics(folder)
    last = rows[-1] if rows else {}
    return Run(
        name=folder.name,
        status=record["status"],
        started=record["started"],
        seed=record["seed"],
        commit=record["commit"],
        step=int(last.get("step", 0)),
        metrics={key: value for key, value in last.items() if key != "step"},
        config=flat(record["config"]),
    )
