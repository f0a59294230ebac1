"""benchmarks/README.md is true: every figure, its newest result and who cites it; what it calls stale is stale."""

from __future__ import annotations

import pytest

from benchmarks.index.figures import FIGURES
from benchmarks.index.page import HEADER, PAGE, RESULTS, ROOT, commits_since, newest, page

TEXT = PAGE.read_text(encoding="utf-8")


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:3] == "| `"]


def test_the_page_is_what_would_be_written_now_but_for_how_stale_it_is() -> None:
    assert TEXT.startswith(HEADER)
    assert [row[:-1] for row in cells(TEXT)] == [row[:-1] for row in cells(page())], (
        "python -m benchmarks.index --write"
    )


def test_what_it_calls_stale_is_stale() -> None:
    found = newest()
    for row in cells(TEXT):
        name = row[0].removeprefix("`python -m benchmarks.").rstrip("`").split()[0]
        if "commit" not in row[-1]:
            continue
        since = commits_since(found[name], FIGURES[name])
        if since is None:
            pytest.skip("git does not know these commits here")
        assert since >= int(row[-1].split()[0]), name


def test_every_benchmark_is_in_the_table_and_its_rooms_exist() -> None:
    folders = {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")} - {"index"}
    assert set(FIGURES) == folders
    for name, figure in FIGURES.items():
        assert figure.rooms, name
        assert [room for room in figure.rooms if not (ROOT / "platform" / "adbeam" / room).exists()] == []


def test_every_result_is_of_a_benchmark_or_said_to_be_of_something_else() -> None:
    names = {path.stem[11:] for path in RESULTS.glob("*.json")}
    assert names - set(FIGURES) == {"test-full", "ladder_rspo"}
