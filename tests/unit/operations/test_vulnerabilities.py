"""Known weaknesses are found by OSV's own rules, from an export on disk."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from adbeam.errors import UserError
from adbeam.operations.dependencies import Dependency, dependencies
from adbeam.operations.vulnerabilities import audit, main, read_advisories


def advisory(name: str, events: list[dict[str, str]] | None = None, **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": events}] if events else []
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges, **more.pop("affected", {})}
    return {"id": "PYSEC-1", "summary": "It leaks.", "affected": [affected], **more}


def holds(version: str, found: dict[str, Any]) -> bool:
    return bool(audit([Dependency("a-b", version, "MIT", ())], [found]))


@pytest.mark.parametrize(
    ("version", "weak"),
    [("0.9", False), ("1.0", True), ("1.4.2", True), ("1.5", False), ("2.0", True), ("2.3", True), ("2.3.1", False),
     ("1.5rc1", True)],
)  # fmt: skip
def test_a_version_is_weak_between_the_events(version: str, weak: bool) -> None:
    events = [{"introduced": "2.0"}, {"last_affected": "2.3"}, {"introduced": "1.0"}, {"fixed": "1.5"}]
    assert holds(version, advisory("A_B", events)) is weak


def test_listed_versions_other_ecosystems_and_withdrawn_advisories() -> None:
    assert holds("7", advisory("a.b", affected={"versions": ["6", "7"]}))
    assert not holds("8", advisory("a.b", affected={"versions": ["6", "7"]}))
    everything = [{"introduced": "0"}]
    assert holds("7", advisory("a-b", everything))
    assert not holds("7", advisory("a-b", everything, withdrawn="2026-01-01T00:00:00Z"))
    assert not holds("7", advisory("a-b", affected={"package": {"ecosystem": "npm", "name": "a-b"}, "versions": ["7"]}))


def test_the_installed_dependencies_are_held_against_an_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = next(one for one in dependencies() if one.name == "ray")
    export = tmp_path / "osv.zip"
    with zipfile.ZipFile(export, "w") as archive:
        archive.writestr("one.json", json.dumps(advisory("ray", [{"introduced": "0"}, {"fixed": "99.0"}])))
        archive.writestr("two.json", json.dumps(advisory("ray", [{"introduced": "0"}, {"fixed": "0.1"}])))
    assert main([str(export)]) == 1
    assert f"ray {ray.version}: PYSEC-1, fixed in 99.0. It leaks." in capsys.readouterr().out
    with zipfile.ZipFile(export, "w") as archive:
        archive.writestr("two.json", json.dumps(advisory("ray", [{"introduced": "0"}, {"fixed": "0.1"}])))
    assert main([str(export)]) == 0


def test_what_is_no_export_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.zip").write_text("nothing")
    for wrong in (tmp_path / "x.zip", tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="export of all advisories"):
            list(read_advisories(wrong))
    assert main([]) == 2 and "name one export" in capsys.readouterr().err
