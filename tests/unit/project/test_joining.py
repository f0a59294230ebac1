"""What a newcomer is told works: targets of make, hooks, templates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", ROOT / "tests" / "README.md", *(ROOT / "docs").glob("*.md"),
         *(ROOT / ".github").rglob("*.md")]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_make_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)\b", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named - TARGETS == set()


def test_targets_that_are_no_files_are_declared_so() -> None:
    (declared,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(declared.split()) == TARGETS


def test_hooks_are_local_and_run_what_lint_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    entries = {hook["entry"].replace(" --force-exclude", "") for hook in config["repos"][0]["hooks"]}
    lint = re.findall(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[0]
    run = {re.sub(r" --check| \.$", "", line.strip().replace("$(BIN)", ".venv/bin")) for line in lint.splitlines()}
    assert {re.sub(r" \.$", "", line) for line in run} == entries


def test_continuous_integration_lints_tests_and_builds_the_site() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^make (\w+)$", script, re.MULTILINE) == ["lint", "test", "docs"]


def test_links_of_the_pages_outside_docs_lead_somewhere() -> None:
    for page in (*PAGES[:1], ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md", ROOT / "benchmarks" / "README.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)
