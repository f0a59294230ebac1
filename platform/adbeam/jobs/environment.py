"""The runtime environment of a submitted job: what is uploaded, how large it is, and what it may see.

Ray zips the working folder and sends it to the cluster in one message. Too large a folder fails late and with a
message that names no file, so the size is measured here first, with Ray's own rules of what is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adbeam.errors import UserError

EXCLUDES = (".git", ".venv", "runs", "build", "dist", "__pycache__", "*.egg-info", ".mypy_cache", ".ruff_cache")
"""Left out of every upload, besides what .gitignore and .rayignore name."""

UPLOAD_LIMIT_BYTES = 100 << 20
"""Ray's own limit is 500 MiB of zip, which its head keeps in memory for each version; data does not belong there."""


@dataclass(frozen=True)
class Upload:
    """What of a folder would be sent. `largest` lists the biggest files first."""

    files: int
    bytes: int
    largest: tuple[tuple[Path, int], ...]


def runtime_env(
    working_dir: Path,
    *,
    env: Mapping[str, str],
    excludes: tuple[str, ...] = (),
    ship_library: bool = True,
    limit_bytes: int = UPLOAD_LIMIT_BYTES,
) -> dict[str, Any]:
    """The runtime environment for a job run in `working_dir`.

    `ship_library` sends this adbeam too, so that the cluster runs the code submitted and not that of its image. Raises
    UserError when the folder is missing or larger than `limit_bytes`, naming the largest files.
    """
    if not working_dir.is_dir():
        raise UserError("no such folder", field="--working-dir", value=str(working_dir), remedy="name a folder")
    left_out = [*EXCLUDES, *excludes]
    refuse_too_large(working_dir, measure(working_dir, left_out), limit_bytes)
    environment: dict[str, Any] = {
        "working_dir": str(working_dir.resolve()),
        "excludes": left_out,
        "env_vars": {"PYTHONUNBUFFERED": "1", **env},
    }
    if ship_library:
        import adbeam

        environment["py_modules"] = [str(Path(adbeam.__file__).parent)]
    return environment


def measure(folder: Path, excludes: list[str]) -> Upload:
    """What Ray would upload of `folder`."""
    sizes = sorted(((path, path.stat().st_size) for path in _uploaded(folder, excludes)), key=lambda pair: -pair[1])
    return Upload(len(sizes), sum(size for _, size in sizes), tuple(sizes[:5]))


def refuse_too_large(folder: Path, upload: Upload, limit_bytes: int) -> None:
    """Raise UserError when an upload is over the limit."""
    if upload.bytes <= limit_bytes:
        return
    largest = ", ".join(f"{path.relative_to(folder.absolute())} ({size >> 20} MiB)" for path, size in upload.largest)
    raise UserError(
        f"{folder} is too large to send: {upload.bytes >> 20} MiB in {upload.files} files, the limit is "
        f"{limit_bytes >> 20} MiB; largest: {largest}",
        field="--working-dir",
        remedy="leave files out with --exclude PATTERN or .rayignore, and keep data on shared storage",
    )


def parse_env(pairs: list[str]) -> dict[str, str]:
    """{"NAME": "value"} from ["NAME=value"]; raises UserError on anything else."""
    parsed = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.replace("_", "a").isalnum() or name[0].isdigit():
            raise UserError("an environment variable is NAME=value", field="--env", value=pair)
        parsed[name] = value
    return parsed


def _uploaded(folder: Path, excludes: list[str]) -> Iterator[Path]:
    # Ray's own walk, private: any other would count files that Ray does not upload.
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    found: list[Path] = []
    root = folder.absolute()
    _dir_travel(root, [_get_excludes(root, excludes)], found.append, include_gitignore=True)
    return (path for path in found if path.is_file())
