"""Commands in the documentation exist: every `adbeam` line parses, and every file it names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from adbeam.cli.root import app

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
COMMENTED = sorted(path for folder in ("cluster", "serving", "jobs") for path in (ROOT / folder).glob("*.y*ml"))


def _lines(path: Path) -> list[str]:
    """Command lines that start with `adbeam`: in bash blocks of a page, in comments of a YAML file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    found = re.findall(r"^[ #$]*(?:eval \"\$\()?(adbeam [^|>;&\n]*)", text, re.MULTILINE)
    return [re.sub(r"\)\"$", "", re.sub(r"\s#.*$|\s{3,}.*$", "", line)).strip() for line in found]


FOUND = [(path, line) for path in (*PAGES, *COMMENTED) for line in _lines(path)]
COMMANDS = [pytest.param(line, id=f"{path.relative_to(ROOT)}: {line}") for path, line in FOUND]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_parses(line: str) -> None:
    command = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    context = typer.Context(command, info_name="adbeam")
    while isinstance(command, TyperGroup) and words != ["--help"]:
        assert words and words[0] in command.commands, line
        command = command.commands[words.pop(0)]
        context = typer.Context(command, info_name=command.name, parent=context)
    try:
        command.parse_args(context, words)
    except typer.Exit:
        assert "--help" in line


READERS = ("jobs/mine.yaml", "jobs/told.yaml", "serving/told.yaml")
"""What the reader of docs/your-own-log.md writes."""


@pytest.mark.parametrize("line", COMMANDS)
def test_files_it_names_are_in_the_repository(line: str) -> None:
    for word in shlex.split(line):
        if re.match(r"(jobs|serving|cluster|dashboards)/[\w./-]+$", word) and word not in READERS:
            assert (ROOT / word).exists(), word


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
