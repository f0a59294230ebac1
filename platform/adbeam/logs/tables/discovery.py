"""Which files a table's `path` names: every file of a folder is read, passed over by a rule, or refused by name.

Names that begin with `.` or `_` are markers, spare or unfinished copies; readers of the field pass them over. A file
that `path` names itself is read whatever its name.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

from adbeam.errors import UserError
from adbeam.logs.config import TableConfig


def _packed(*endings: str) -> tuple[str, ...]:
    return tuple(ending + packing for ending in endings for packing in ("", ".gz", ".zst"))


ENDINGS = {
    "parquet": (".parquet", ".pq"),
    "csv": _packed(".csv"),
    "jsonl": _packed(".jsonl", ".ndjson", ".json"),
}
"""Endings of each format, in lower case; a file's own may be in any."""
_NAMED_AT_MOST = 5
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What writers name the folder of rows without a value."""


def list_files(config: TableConfig, field: str) -> list[Path]:
    """The files that `config.path` names, sorted within each of its paths.

    Raises UserError when there are none, when a folder holds files of no known ending, or when it is a table of another
    format (Delta, Iceberg, Hudi), whose removed rows still lie there.
    """
    files: list[Path] = []
    for pattern in config.path:
        path = Path(pattern)
        if path.is_dir():
            found = _folder_files(path, config, field)
        else:
            found = [path] if path.is_file() else _matching_files(pattern, config, field)
        if not found:
            raise UserError("no such file", field=f"{field}.path", value=pattern, remedy="check the path")
        _refuse_table_formats(found, field)
        files.extend(sorted(found))
    return files


def format_of(path: Path, config: TableConfig, field: str) -> str:
    """parquet, csv or jsonl; raises UserError where neither the setting nor the file's ending tells."""
    kind = _known_format(path, config)
    if kind:
        return kind
    raise UserError(
        "cannot tell the format from the ending",
        field=f"{field}.path",
        value=path.name,
        remedy="set format to parquet, csv or jsonl",
    )


def partition_values(path: Path) -> dict[str, str | None]:
    """What the path's folders say: {"dt": "2025-03-26"} for log/dt=2025-03-26/part-0.parquet."""
    pairs = [part.split("=", 1) for part in path.parent.parts if "=" in part]
    return {unquote(name): None if value == _NO_VALUE else unquote(value) for name, value in pairs}


def partition_columns(path: Path) -> tuple[str, ...]:
    """The names that the path's folders give values for: ("dt",) for log/dt=2025-03-26/part-0.parquet."""
    return tuple(partition_values(path))


def _known_format(path: Path, config: TableConfig) -> str | None:
    if config.format != "auto":
        return config.format
    name = path.name.lower()
    return next((kind for kind, endings in ENDINGS.items() if name.endswith(endings)), None)


def _folder_files(folder: Path, config: TableConfig, field: str) -> list[Path]:
    """All data files below `folder`; raises UserError for those of which nothing says what they are."""
    _refuse_table_formats([folder / "any"], field)
    files = list(_walk(folder, set()))
    unknown = sorted(path for path in files if _known_format(path, config) is None)
    if unknown:
        named = ", ".join(str(path.relative_to(folder)) for path in unknown[:_NAMED_AT_MOST])
        more = f" and {len(unknown) - _NAMED_AT_MOST:,} more" if len(unknown) > _NAMED_AT_MOST else ""
        raise UserError(
            f"the folder holds files that would not be read: {named}{more}",
            field=f"{field}.path",
            value=str(folder),
            remedy="set format if all its files are of one, name the files to read by a glob (folder/**/*.parquet), "
            "unpack them, or move them away or give them names that begin with _",
        )
    return files


def _walk(folder: Path, entered: set[Path]) -> Iterator[Path]:
    """Files below `folder` that are not hidden; a folder that a link leads back to is entered once."""
    real = folder.resolve()
    if real in entered:
        return
    entered.add(real)
    for entry in sorted(folder.iterdir()):
        if _is_hidden(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(entry, entered)
        elif entry.is_file():
            yield entry


def _matching_files(pattern: str, config: TableConfig, field: str) -> list[Path]:
    """Files that a glob matches, and those of the folders it matches."""
    found: dict[Path, None] = {}
    for path in sorted(Path(name) for name in glob.glob(pattern, recursive=True)):
        if any(_is_hidden(part) and not _asked_for(part, pattern) for part in path.parts):
            continue
        if path.is_file():
            found[path] = None
        elif path.is_dir() and not pattern.rstrip(os.sep).endswith("**"):
            found.update(dict.fromkeys(_folder_files(path, config, field)))
    return list(found)


def _is_hidden(name: str) -> bool:
    """A partition folder may begin with an underscore: `_day=1` holds data."""
    return name not in (".", "..") and name.startswith((".", "_")) and not (name.startswith("_") and "=" in name)


def _asked_for(part: str, pattern: str) -> bool:
    """Whether the pattern spells the first character of a hidden name, as `_spare/*.csv` does."""
    return any(part[0] == asked[0] and fnmatchcase(part, asked) for asked in Path(pattern).parts)


def _refuse_table_formats(files: Iterable[Path], field: str) -> None:
    """Raise UserError for a file in a table whose log, not whose folder, says which files and rows are current."""
    for folder in {parent for file in files for parent in file.absolute().parents}:
        table = _table_format(folder)
        if table:
            raise UserError(
                f"is a {table} table: files that updates and deletes removed from it still lie in its folder",
                field=f"{field}.path",
                value=str(folder),
                remedy="write its current version out as plain Parquet and name that folder",
            )


def _table_format(folder: Path) -> str | None:
    if (folder / "_delta_log").is_dir():
        return "Delta"
    if (folder / ".hoodie").is_dir():
        return "Hudi"
    return "Iceberg" if any((folder / "metadata").glob("*.metadata.json")) else None
