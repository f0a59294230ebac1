"""The documentation site is built strictly, and its pages ask nobody else for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.tools import module

ROOT = Path(__file__).parents[3]
OUTWARD = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^\"> ]+", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module("mkdocs", "docs")
    module("mkdocstrings", "docs")
    folder = tmp_path_factory.mktemp("website")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["--config-file", str(ROOT / "website" / "mkdocs.yml"), "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return folder


def test_every_page_of_the_documentation_is_on_it(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= pages
    assert "repository/CONTRIBUTING.html" in pages and "repository/benchmarks/index.html" in pages
    reference = (site / "python.html").read_text(encoding="utf-8")
    assert "The best" in reference and "recommend_many" in reference and "known_many" in reference


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    outward = {found for path in site.rglob("*.html") for found in OUTWARD.findall(path.read_text(encoding="utf-8"))}
    assert outward == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(\"?(?:https?:)?//[^)]*\)|@import[^;]*//", styles) == []


def test_results_that_pages_cite_are_copied_along(site: Path) -> None:
    text = (site / "measurements.html").read_text(encoding="utf-8")
    cited = set(re.findall(r"href=\"?(repository/benchmarks/results/[\w.-]+\.json)", text))
    assert len(cited) >= 8
    assert [name for name in sorted(cited) if not (site / name).is_file()] == []
