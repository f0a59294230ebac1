"""Folders that are either whole or absent.

A step writes into a hidden temporary folder beside its target, writes `manifest.json` (sha256 and size of every file)
last, and renames. A reader that finds no manifest, or a file that differs from it, refuses the folder. A killed step
leaves only a hidden folder, which the next run removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from adbeam.errors import UserError
from adbeam.workdir import WRITERS

MANIFEST = "manifest.json"


@contextmanager
def publish(target: str | Path, details: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` when the block ends without an error.

    `details` goes into the manifest beside the file hashes; the block may add to it while it runs.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(target)
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    staging.mkdir()
    try:
        yield staging
        write_manifest(staging, details)
        swap_in(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_manifest(folder: Path, details: Mapping[str, Any]) -> None:
    """Write manifest.json for what `folder` holds now."""
    files = {str(path.relative_to(folder)): describe(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    write_json(folder / MANIFEST, {**details, "files": files})


def read_manifest(folder: str | Path, *, verify: bool = True) -> dict[str, Any]:
    """The manifest of a published folder; raises UserError naming the first file that is missing or differs."""
    folder = Path(folder)
    writer = WRITERS.get(folder.name, "the step that writes it")
    refuse = partial(UserError, remedy=f"run {writer} again")
    if not folder.is_dir():
        raise UserError(f"there is no {folder}", remedy=f"run {writer} with the same configuration first")
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
    except OSError:
        raise refuse(f"{folder} holds no {MANIFEST}") from None
    except (ValueError, KeyError, TypeError):
        raise refuse(f"{folder / MANIFEST} is not a manifest") from None
    for name, expected in files.items() if verify else ():
        path = folder / name
        if not path.is_file():
            raise refuse(f"{folder} lacks {name}")
        if describe(path) != expected:
            raise refuse(f"{path} differs from its manifest")
    return manifest


def is_current(folder: str | Path, details: Mapping[str, Any]) -> bool:
    """Whether `folder` was published whole with these same details, so that the step need not run again."""
    try:
        manifest = read_manifest(folder)
    except UserError:
        return False
    return all(manifest.get(key) == json.loads(json.dumps(value)) for key, value in details.items())


def fingerprint(*parts: Any) -> str:
    """A short stable hash of settings and inputs; files count by size and modification time."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            stat = part.stat()
            part = [str(part), stat.st_size, stat.st_mtime_ns]
        digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def describe(path: Path) -> dict[str, Any]:
    """The sha256 and size of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)


def swap_in(staging: Path, target: Path) -> None:
    """Put `staging` in the place of `target`, removing what stood there."""
    old = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.old"
    if target.exists():
        os.replace(target, old)
    os.replace(staging, target)
    shutil.rmtree(old, ignore_errors=True)


def clear_leftovers(target: Path) -> None:
    """Remove what a killed run left beside `target`; puts an old version back if the kill fell between two renames."""
    for leftover in target.parent.glob(f".{target.name}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    for old in target.parent.glob(f".{target.name}.*.old"):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, target)
