"""benchmarks/README.md, written from the results: figure, command, minutes, newest result, who cites it, staleness.

    python -m benchmarks.index [--write]

Prints the table as of now; `--write` puts it into benchmarks/README.md. A result is stale where a commit since its own
has changed one of the rooms that it measures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.index.figures import FIGURES, Figure

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "benchmarks" / "README.md"
HEADER = """\
# Benchmarks

Written by `python -m benchmarks.index --write`; without `--write` it prints the table as of now. Each figure is a
folder, run as `python -m benchmarks.NAME`; it writes NAME.json into the working folder, with commit, command and
hardware. To cite a result, copy it to `benchmarks/results/` under its date. `rig/` holds what several share.

*Minutes* are those that the newest result says; a dash: it does not. *Stale*: commits since the result have changed
rooms that it measures, so many of them when this page was written; "no" is as of then too. A figure without a result
is not to be cited from anywhere. Measure on an idle machine; ratios are taken within one run.

On a rented GPU machine with PyTorch, without Ray, DeepSpeed or a network: `WHEELS=FOLDER bash benchmarks/gpu/run.sh`,
from a source tree; it takes at most ten minutes, and `gpu.json` holds what was found when it ended, however it ended.

"""
HEADINGS = ("command", "asks", "minutes", "newest result", "commit", "cited by", "stale")


@dataclass(frozen=True)
class Result:
    """A dated result file."""

    path: Path
    values: dict[str, Any]

    @property
    def commit(self) -> str:
        """Where it was measured."""
        return str(self.values["commit"]).removesuffix("-dirty")


def newest() -> dict[str, Result]:
    """The newest result of each benchmark, by the name in its command; parts of a run do not count."""
    found: dict[str, Result] = {}
    for path in sorted(RESULTS.glob("*.json")):
        name = path.stem[len("2026-01-01-") :]
        if name in FIGURES:
            found[name] = Result(path, json.loads(path.read_text(encoding="utf-8")))
    return found


def cited_by(result: Result) -> list[str]:
    """The pages that name a result's file."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [page.name for page in pages if result.path.name in page.read_text(encoding="utf-8")]


def commits_since(result: Result, figure: Figure) -> int | None:
    """Commits after the result's that changed what it measures; None where git does not know the commit."""
    paths = [f"platform/adbeam/{room}" for room in figure.rooms]
    command = ["git", "rev-list", "--count", f"{result.commit}..HEAD", "--", *paths]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return int(answer.stdout) if answer.returncode == 0 else None


def minutes(values: dict[str, Any]) -> str:
    """How long the run took, as far as its result says."""
    spent = values.get("minutes")
    if spent is None and (sections := values.get("settings", {}).get("section_seconds")):
        spent = sum(sections.values()) / 60
    return "-" if spent is None else f"{spent:.0f}" if spent >= 1 else "< 1"


def row(name: str, result: Result | None) -> tuple[str, ...]:
    """One line of the table."""
    figure = FIGURES[name]
    command = f"`python -m benchmarks.{name} {figure.arguments}".strip() + "`"
    if result is None:
        return command, figure.question, "-", "none", "", "", ""
    since = commits_since(result, figure)
    stale = "unknown" if since is None else f"{since} commits" if since > 1 else "1 commit" if since else "no"
    link = f"[{result.path.name[:10]}](results/{result.path.name})"
    pages = ", ".join(cited_by(result)) or "none"
    return command, figure.question, minutes(result.values), link, f"`{result.commit}`", pages, stale


def table() -> list[tuple[str, ...]]:
    """The whole table."""
    results = newest()
    return [row(name, results.get(name)) for name in FIGURES]


def page() -> str:
    """The page as of now."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *table()]
    return HEADER + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    """Print the table, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/README.md")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
        print(f"wrote {PAGE}")
        return
    for cells in table():
        print(f"{cells[0][21:-1]:50} {cells[3][1:11]:12} {cells[4]:10} stale: {cells[6] or '-'}")
