"""Known vulnerabilities of the installed dependencies, without a connection: against an export of the OSV database.

    python -m adbeam.operations.vulnerabilities osv-pypi.zip

The export is one archive of all advisories for PyPI, which osv.dev publishes daily as a file; fetch it where there is a
connection. Ranges are read as OSV defines them (https://ossf.github.io/osv-schema): a version is affected when it is
listed, or lies between an `introduced` and the next `fixed` or `last_affected` event.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from adbeam.errors import UserError
from adbeam.operations.dependencies import Dependency, dependencies


@dataclass(frozen=True)
class Weakness:
    """One advisory that holds for one installed dependency; `fixed` are the first versions without it."""

    package: str
    version: str
    advisory: str
    summary: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        remedy = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fixed version is known"
        return f"{self.package} {self.version}: {self.advisory}, {remedy}. {self.summary}".strip()


def audit(found: Iterable[Dependency], advisories: Iterable[Mapping[str, Any]]) -> list[Weakness]:
    """Every advisory that an installed version falls under, by package; withdrawn ones do not count."""
    installed = {one.name: one.version for one in found}
    weak = []
    for advisory in advisories:
        for affected in advisory.get("affected", ()) if "withdrawn" not in advisory else ():
            package = affected.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") != "PyPI" or name not in installed:
                continue
            if _is_affected(installed[name], affected):
                weak.append(
                    Weakness(name, installed[name], advisory["id"], advisory.get("summary", ""), _fixed(affected))
                )
    return sorted(set(weak), key=lambda one: (one.package, one.advisory))


def read_advisories(path: str | Path) -> Iterator[dict[str, Any]]:
    """The advisories of an export: a zip archive or a folder of JSON files; raises UserError when it is neither."""
    path = Path(path)
    remedy = "name osv.dev's export of all advisories for PyPI, as a zip or unpacked"
    try:
        if path.is_dir():
            texts: Iterable[bytes] = (file.read_bytes() for file in sorted(path.glob("*.json")))
        else:
            archive = zipfile.ZipFile(path)
            texts = (archive.read(name) for name in archive.namelist() if name.endswith(".json"))
        empty = True
        for text in texts:
            empty = False
            yield json.loads(text)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise UserError(f"{path} cannot be read as advisories: {error}", remedy=remedy) from None
    if empty:
        raise UserError(f"{path} holds no advisory", remedy=remedy)


def _is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    if version in affected.get("versions", ()):
        return True
    ranges = (one["events"] for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM")
    return any(_in_range(Version(version), events) for events in ranges)


def _in_range(version: Version, events: list[dict[str, str]]) -> bool:
    """The last event at or before `version` decides; `last_affected` ends a range only after its own version."""
    inside = False
    for kind, moment in sorted(_events(events), key=lambda event: (event[1], event[0] != "introduced")):
        if kind == "introduced" and version >= moment:
            inside = True
        elif (kind == "fixed" and version >= moment) or (kind == "last_affected" and version > moment):
            inside = False
    return inside


def _events(events: list[dict[str, str]]) -> Iterator[tuple[str, Version]]:
    for event in events:
        for kind, text in event.items():
            if kind in ("introduced", "fixed", "last_affected"):
                try:
                    yield kind, Version(text)
                except InvalidVersion:
                    continue


def _fixed(affected: Mapping[str, Any]) -> tuple[str, ...]:
    events = [event for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM" for event in one["events"]]
    return tuple(event["fixed"] for event in events if "fixed" in event)


def main(arguments: list[str] | None = None) -> int:
    """Print what is found; the exit code is 1 when there is anything, 2 when the export cannot be read."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if len(words) != 1:
            raise UserError(
                "name one export of advisories", remedy="python -m adbeam.operations.vulnerabilities osv-pypi.zip"
            )
        found = dependencies()
        weak = audit(found, read_advisories(words[0]))
    except UserError as error:
        print(f"adbeam: {error}", file=sys.stderr)
        return 2
    for one in weak:
        print(one)
    print(f"{len(found)} dependencies, {len(weak)} known weaknesses")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
