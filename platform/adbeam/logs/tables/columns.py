"""Whether a table has the columns that the configuration names, file by file, before any row is read.

What is required must be in every file. What is optional may be missing in some (logs grow columns), not in all: a name
that no file has is a typing error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adbeam.errors import UserError, nearest_name
from adbeam.logs.config import TableConfig
from adbeam.logs.tables.discovery import partition_columns


@dataclass(frozen=True)
class Opened:
    """What opening a file told: its format, columns, and how a CSV file is written."""

    path: Path
    format: str
    names: tuple[str, ...]
    delimiter: str = ","
    decimal: str = "."

    def offers(self, column: str) -> bool:
        """Whether a mapped column is in the file or in the name of one of its folders."""
        return column in self.names or column in partition_columns(self.path)


Later = Callable[[Opened, str], bool]
"""Whether a file that tells its columns row by row has one further on than was looked."""


def check_columns(
    files: Sequence[Opened],
    config: TableConfig,
    field: str,
    required: tuple[str, ...],
    optional: tuple[str, ...],
    later: Later,
) -> dict[str, list[Path]]:
    """{mapped optional column: files without it}; raises UserError for names nobody knows and columns no file has."""
    _check_names(config, field, (*required, *optional))
    for file in files:
        _check_doubled(file, config, field, (*required, *optional))
        for ours in required:
            for theirs in config.theirs(ours):
                there = file.offers(theirs) if ours in config.columns else ours in file.names
                if not there and ours not in config.constants and not later(file, theirs):
                    raise _missing(file, f"{field}.columns{'.' + ours if ours in config.columns else ''}", theirs)
    lacking: dict[str, list[Path]] = {}
    sought = [(f"{field}.columns.{ours}", theirs) for ours in config.columns for theirs in config.theirs(ours)]
    sought += [(f"{field}.features.{name}", name) for name in config.features if name not in config.constants]
    sought += [(f"{field}.scale.{name}", config.renamed.get(name, name)) for name in config.scale]
    sought += [(f"{field}.actions.{ours}", name) for ours, name in config.actions.items()]
    sought += [(f"{field}.newest_by", name) for name in config.version_columns]
    for place, theirs in sought:
        without = [file for file in files if not file.offers(theirs)]
        if files and len(without) == len(files) and not any(later(file, theirs) for file in files):
            raise _missing(files[0], place, theirs)
        told = [file.path for file in without if file.format != "jsonl"]  # JSON leaves a key out where it is null
        if told:
            lacking[theirs] = told
    return lacking


def _check_names(config: TableConfig, field: str, known: tuple[str, ...]) -> None:
    for setting, names in (("columns", config.columns), ("values", config.values), ("constants", config.constants)):
        valid = (*known, *config.features) if setting == "constants" else known
        for name in names:
            if name not in valid:
                remedy = f"did you mean {nearest_name(name, valid)!r}? choose from {', '.join(valid)}"
                raise UserError("unknown name", field=f"{field}.{setting}", value=name, remedy=remedy)


def _check_doubled(file: Opened, config: TableConfig, field: str, known: tuple[str, ...]) -> None:
    """A column that stands twice does harm only where it is asked for: nobody can say which one is meant."""
    ours = {name for name in known if name not in config.columns}
    for name in (*config.asked_for, *ours):
        if file.names.count(name) > 1:
            raise UserError(
                f"{file.path} has the column {name!r} {file.names.count(name)} times",
                field=f"{field}.columns",
                remedy="rename or remove the others in the file",
            )


def _missing(file: Opened, field: str, column: str) -> UserError:
    has = ", ".join(file.names[:20]) or "none"
    if column in partition_columns(file.path):
        return UserError(
            f"{file.path}: {column!r} is the name of its folder",
            field=field,
            remedy=f"map it to take the folder's value: columns: {{{column}: {column}}}",
        )
    remedy = f"map it to one of its columns ({has}) or give it under constants"
    if file.format == "csv" and len(file.names) == 1:
        remedy = f"the file has one column only ({has[:80]}): set delimiter to what stands between its cells"
    elif file.format != "csv" and "." in column:
        remedy = f"fields inside objects are named by their path; it has {has}"
    elif ".actions." in field:
        remedy = f"name one of its columns ({has}), or remove the action"
    elif field.endswith(".newest_by"):
        remedy = f"name one of its columns ({has}), or file_order"
    return UserError(f"{file.path} has no column {column!r}", field=field, remedy=remedy)
