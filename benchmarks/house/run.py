"""How the code is built: circles, arrows, sizes, tests, types, what a command costs, and what it takes to join.

    python -m benchmarks.house [--tests | --test-minutes M --test-unit-seconds S] [--join] [--against COMMIT]

`--tests` times `make test-unit` and `make test`, the machine to itself. `--join` runs the examples, checks a room and
builds the site. `--against` measures an earlier commit in a git worktree of its own, beside this one on the same
machine; `--before` says how many tests it had. Needs the extras `dev` and `docs`. Writes house.json.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tests.support import walls

from benchmarks.house import joining as house
from benchmarks.rig.report import report

ROOT = Path(__file__).parents[2]
REPEATS = 5
TESTS_BEFORE = 1284
"""Tests that pytest collected at 1ba0e90, the commit before rooms and wings."""
CONFIG_SHOW = ("config", "show", "-c", "jobs/quickstart.yaml")
BEFORE = ("package_cycles", "file_circles", "largest_folder", "largest_file", "config_show_seconds", "config_show_mib")

Figures = dict[str, float | int | None]


def main() -> None:
    """Measure the tree this file stands in and write house.json."""
    given = _options()
    figures = cost(ROOT)  # first, while this process is small: see `_run`
    details: Figures = {}
    if given.against:
        with _worktree(given.against) as old:
            found = cost(old) | shape(old)
        details = {f"{name}_before": found[name] for name in BEFORE}
    figures |= shape(ROOT)
    minutes, seconds = times() if given.tests else (given.test_minutes, given.test_unit_seconds)
    figures |= {"test_minutes": minutes, "test_unit_seconds": seconds}
    figures |= joining(given.join)
    figures |= {"tests_before": given.before, "tests_after": collected(), "strict_errors": strict_errors()}
    report("house", figures, {"against": given.against, "before": details, "repeats": REPEATS})


def joining(all_of_it: bool) -> Figures:
    """What joining takes; examples, a room's check and the site only where they are asked for."""
    environment = _environment(ROOT)
    figures: Figures = {
        "import_seconds": house.import_seconds(environment),
        "extension_kinds": house.extension_kinds(),
    }
    for measure in (house.examples_run, house.room_check_seconds, house.docs_pages):
        figures[measure.__name__] = measure(environment) if all_of_it else None
    return figures


def shape(tree: Path) -> Figures:
    """Circles and upward arrows of the package; the largest folder and file of code, tests and benchmarks."""
    arrows = walls.arrows(tree / "platform" / "adbeam")
    folders = [tree / name for name in ("platform", "tests", "benchmarks")]
    return {
        "package_cycles": len(walls.package_cycles(arrows)),
        "file_circles": len(walls.file_circles(arrows)),
        "upward_arrows": len(walls.upward(arrows)),
        "largest_folder": max(walls.files_in(folders).values()),
        "largest_file": max(walls.lines_of(folders).values()),
    }


def cost(tree: Path) -> Figures:
    """Wall seconds and peak MiB of `adbeam config show` and `adbeam --help`, medians of fresh processes."""
    show = [_run(tree, *CONFIG_SHOW) for _ in range(REPEATS + 1)][1:]  # the first one compiles the modules
    usage = [_run(tree, "--help") for _ in range(REPEATS + 1)][1:]
    return {
        "config_show_seconds": median(seconds for seconds, _ in show),
        "config_show_mib": median(mib for _, mib in show),
        "help_seconds": median(seconds for seconds, _ in usage),
    }


def _run(tree: Path, *arguments: str) -> tuple[float, float]:
    """(wall seconds, peak MiB) of one `adbeam` of that tree.

    The kernel's peak of a child begins with what its parent held when it was forked.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "adbeam.cli", *arguments],
        cwd=tree, env=_environment(tree), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)  # reaped here: Popen must not wait for it
    if process.returncode:
        raise SystemExit(f"adbeam {' '.join(arguments)} ended with {process.returncode} in {tree}")
    return seconds, used.ru_maxrss / 1024


def _environment(tree: Path) -> dict[str, str]:
    """This environment, with the package of `tree` and with compiled modules kept, as an installed package has them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(tree / "platform")}


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="adbeam-house-") as folder:
        tree = Path(folder, "tree")
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def times() -> tuple[float, float]:
    """(minutes of `make test`, seconds of `make test-unit`); stops on a failure."""
    seconds = {}
    for target in ("test-unit", "test"):
        began = time.perf_counter()
        subprocess.run(["make", target], cwd=ROOT, check=True)
        seconds[target] = time.perf_counter() - began
    return seconds["test"] / 60, seconds["test-unit"]


def collected() -> int:
    """Tests that pytest finds in tests and benchmarks, those marked `full` too."""
    return int(_found(r"^(\d+) tests collected", "pytest", "tests", "benchmarks", "--collect-only") or 0)


def strict_errors() -> int:
    """Errors of mypy as pyproject.toml sets it."""
    found = _found(r"^(?:Found (\d+) errors? in|Success)", "mypy")
    return int(found or 0)


def _found(pattern: str, module: str, *arguments: str) -> str | None:
    """What the first group of `pattern` matched in the output of `python -m module`."""
    command = [sys.executable, "-m", module, *arguments]
    answer = subprocess.run(command, cwd=ROOT, env=_environment(ROOT), capture_output=True, text=True, check=False)
    match = re.search(pattern, answer.stdout, re.MULTILINE)
    if match is None:
        raise SystemExit(f"{module} ended with {answer.returncode}:\n{answer.stdout[-3000:]}{answer.stderr[-3000:]}")
    return match[1]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", action="store_true", help="time make test-unit and make test")
    parser.add_argument("--join", action="store_true", help="run the examples, check a room, build the site")
    parser.add_argument("--test-minutes", type=float, help="of make test, timed before")
    parser.add_argument("--test-unit-seconds", type=float, help="of make test-unit, timed before")
    parser.add_argument("--before", type=int, default=TESTS_BEFORE, help="tests of the commit compared with")
    parser.add_argument("--against", metavar="COMMIT", help="measure this commit too")
    return parser.parse_args()
