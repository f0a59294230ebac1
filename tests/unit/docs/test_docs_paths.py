"""Paths and modules that the documentation names exist: in README.md, CHANGELOG.md and the pages of docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import adbeam
from adbeam.imports.extension_points import KINDS

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "platform" / "adbeam"
GROUPS = {registry.group for registry in KINDS}
READERS = ("jobs/mine.yaml", "jobs/told.yaml", "serving/told.yaml")
"""What the reader of docs/your-own-log.md writes."""
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TOPS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"runs"}


def _text(page: Path) -> str:
    """What is checked here: not the old files of docs/moved.md, nor the tree of docs/architecture.md, which name files
    without their folders; both pages have tests of their own."""
    text = "" if page.name == "moved.md" else page.read_text(encoding="utf-8")
    return text.partition("## Four walks")[2] if page.name == "architecture.md" else text


def _files(text: str) -> list[str]:
    """`path/file.py`, `file.py`, and other files under a folder of the repository."""
    found = re.findall(r"(?<![\w./<-])((?:[\w-]+/)*[\w-]+\.py)\b", text)
    found += re.findall(rf"(?<![\w./<-])((?:{'|'.join(sorted(TOPS))})/[\w./-]*\w\.\w+)", text)
    return [name for name in dict.fromkeys(found) if name not in READERS]


def _folders(text: str) -> list[str]:
    """`path/folder/` where the first part is a folder of the repository or a room with more parts behind it."""
    found = re.findall(r"`((?:[\w-]+/)+)`", text)
    return [name for name in found if name.split("/")[0] in TOPS | {"adbeam"} or name.count("/") > 1]


def _modules(text: str) -> list[str]:
    return re.findall(r"(?<![\w./-])((?:adbeam|benchmarks|tests)(?:\.\w+)+)", text)


def _exists(name: str) -> bool:
    places = (ROOT, ROOT / "platform", PACKAGE, ROOT / "docs")
    return any((place / name).exists() for place in places)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_folders_that_a_page_names_exist(page: Path) -> None:
    text = _text(page)
    made = {"prepared", "runs", "training_runs"}  # in a work_dir
    wrong = [name for name in (*_files(text), *_folders(text)) if not _exists(name) and name.split("/")[0] not in made]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_names_exist(page: Path) -> None:
    assert [name for name in _modules(_text(page)) if not _leads_somewhere(name)] == []


def _leads_somewhere(dotted: str) -> bool:
    """A package or module, or a name that stands in a module's text; NAME stands for any."""
    parts = dotted.split(".")
    if parts[-1] == "NAME" or dotted in GROUPS:
        return True
    if parts[0] == "adbeam" and parts[1] in adbeam.__all__:
        value: Any = adbeam
        return all((value := getattr(value, part, None)) is not None for part in parts[1:])
    base = ROOT / "platform" if parts[0] == "adbeam" else ROOT
    for end in range(len(parts), 0, -1):
        place = base.joinpath(*parts[:end])
        module = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
        if module.is_file():
            rest = parts[end:]
            return len(rest) < 2 + (module.name != "__init__.py") and all(part in module.read_text() for part in rest)
    return False


def test_what_is_gone_is_found() -> None:
    text = "see `serving/border.py`, `serving/http/app.py`, `platform/adbeam/attic/` and adbeam.beams.costs.fit"
    assert [name for name in (*_files(text), *_folders(text)) if not _exists(name)] == [
        "serving/border.py", "platform/adbeam/attic/",
    ]  # fmt: skip
    assert _leads_somewhere("adbeam.steps.export") and not _leads_somewhere("adbeam.Recommender.laod")
    assert not _leads_somewhere("adbeam.beams.costs.fit") and _leads_somewhere("adbeam.beams.cost.fit")


def test_the_pages_name_much() -> None:
    named = [name for page in PAGES for name in _files(_text(page))]
    assert len(named) > 200
