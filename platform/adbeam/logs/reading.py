"""A table in Parquet, CSV or JSON as a stream of small Arrow tables with the contract's column names.

Every file is opened before any row is read: what it is, whether it is whole, which columns it has. Readers of the
formats are in `adbeam.logs.tables`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from adbeam.errors import UserError
from adbeam.identity.people import NOBODY_WORDS
from adbeam.logs.actions.of_rows import events_of_rows
from adbeam.logs.config import TableConfig
from adbeam.logs.tables import csv_files, json_files, parquet_files
from adbeam.logs.tables.columns import Opened, check_columns
from adbeam.logs.tables.discovery import format_of, list_files, partition_columns
from adbeam.logs.tables.fragments import DAMAGE, Chunk, Fragment, unreadable
from adbeam.logs.tables.mapping import numbers_of, to_contract
from adbeam.logs.tables.text_files import open_text

__all__ = ["Chunk", "Fragment", "Listing", "list_fragments", "list_table", "read_chunks", "unreadable"]

_EMPTY_BYTES = 4096
"""A larger file is taken to hold something."""
_NAMED_AT_MOST = 10
"""Empty files that the account names."""
_KINDS = {"parquet": parquet_files.KIND, "csv": csv_files.KIND, "jsonl": json_files.KIND}
_READERS = {"parquet": parquet_files.read_parquet, "csv": csv_files.read_csv, "jsonl": json_files.read_json}


@dataclass(frozen=True)
class Listing:
    """A table as its files tell of it. `lacking` are the files without a mapped optional column."""

    files: tuple[Path, ...]
    fragments: tuple[Fragment, ...]
    empty: tuple[Path, ...] = ()
    lacking: dict[str, list[Path]] = field(default_factory=dict)

    def notes(self) -> dict[str, int]:
        """What is out of the ordinary, for the account; nothing where all is plain."""
        found = {f"empty file {path}": 1 for path in self.empty[:_NAMED_AT_MOST]}
        if len(self.empty) > _NAMED_AT_MOST:
            found["more empty files"] = len(self.empty) - _NAMED_AT_MOST
        for column, paths in self.lacking.items():
            found[f"files that lack {column} (the first is {paths[0]})"] = len(paths)
        written = Counter((part.delimiter, part.decimal) for part in self.fragments if part.format == "csv")
        for (delimiter, decimal), count in sorted(written.items()):
            if (delimiter, decimal) != (",", "."):
                found[f"CSV files with {delimiter!r} between cells and {decimal!r} before decimals"] = count
        return found


def list_fragments(
    config: TableConfig, field: str, required: tuple[str, ...], optional: tuple[str, ...]
) -> list[Fragment]:
    """The shares of a table; see list_table."""
    return list(list_table(config, field, required, optional).fragments)


def list_table(config: TableConfig, field: str, required: tuple[str, ...], optional: tuple[str, ...]) -> Listing:
    """The files of a table and its shares; every file is opened and its columns checked first. Empty files have none.

    Raises UserError naming the file that is truncated or the column that is missing, or when all files are empty.
    """
    files = list_files(config, field)
    kinds = {path: format_of(path, config, field) for path in files}
    empty = [path for path in files if _is_empty(path, kinds[path], config)]
    if empty and (config.empty_files == "refuse" or len(set(empty)) == len(kinds)):
        remedy = "remove it or write it again" + ("" if len(set(empty)) == len(kinds) else ", or set empty_files: pass")
        raise UserError(f"{empty[0]} is empty", field=f"{field}.path", remedy=remedy)
    nothing = set(empty)
    opened = [_open(path, kinds[path], config, required) for path in files if path not in nothing]

    def later(file: Opened, column: str) -> bool:
        return file.format == "jsonl" and _guarded(json_files.finds_later, file.path, "jsonl", config, column)

    lacking = check_columns(opened, config, field, required, optional, later)
    fragments = [part for file in opened for part in _split(file)]
    return Listing(tuple(files), tuple(fragments), tuple(empty), lacking)


def read_chunks(
    fragment: Fragment, config: TableConfig, batch_rows: int, nobody_words: Collection[str] = NOBODY_WORDS
) -> Iterator[Chunk]:
    """The fragment's rows, about `batch_rows` at a time, columns renamed and constants filled in; of rows that carry
    several actions their events. Of a user of several columns `nobody_words` mean nobody."""
    path = Path(fragment.path)
    for chunk in _READERS[fragment.format](fragment, config, batch_rows):
        named = Chunk(to_contract(chunk.table, config, path, fragment.decimal, nobody_words), chunk.malformed)
        yield from events_of_rows(named, config) if config.actions else (named,)


def _is_empty(path: Path, kind: str, config: TableConfig) -> bool:
    """No byte, no text but blank lines, no element of an array; what cannot be unpacked is not empty but unreadable."""
    size = path.stat().st_size
    if size == 0 or kind == "parquet" or size > _EMPTY_BYTES:
        return size == 0
    return bool(_guarded(_holds_nothing, path, kind, kind, config))


def _holds_nothing(path: Path, kind: str, config: TableConfig) -> bool:
    with open_text(path, config.encoding) as text:
        held = "".join(text.read().split())
    return not held or (kind == "jsonl" and held == "[]")


def _open(path: Path, kind: str, config: TableConfig, required: tuple[str, ...]) -> Opened:
    """The columns a file offers; opening it is also the check that it is whole enough to read."""
    if kind == "parquet":
        return Opened(path, kind, tuple(_guarded(parquet_files.column_names, path, kind)))
    if _begins_as_parquet(path):
        raise UserError(f"{path} is Parquet, not {_KINDS[kind]}", remedy="set format: parquet, or rename it")
    if kind == "jsonl":
        return Opened(path, kind, tuple(_guarded(json_files.column_names, path, kind, config)))
    wanted = {theirs for ours in required if ours not in config.constants for theirs in config.theirs(ours)}
    wanted -= set(partition_columns(path))
    names, delimiter = _guarded(csv_files.header, path, kind, config, wanted)
    numbers = {config.renamed.get(name, name) for name in numbers_of(config)}
    decimal = _guarded(csv_files.decimal_of, path, kind, config, delimiter, numbers)
    return Opened(path, kind, tuple(names), delimiter, decimal)


def _split(file: Opened) -> list[Fragment]:
    if file.format == "parquet":
        return list(_guarded(parquet_files.split, file.path, file.format))
    return [Fragment(str(file.path), file.format, (), file.delimiter, file.decimal)]


def _begins_as_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _guarded(step, path: Path, kind: str, *arguments):  # type: ignore[no-untyped-def]
    """The result of `step(path, ...)`; whatever a library raises over the file becomes an error that names it."""
    try:
        return step(path, *arguments)
    except UserError:
        raise
    except DAMAGE as error:
        raise unreadable(path, kind, error) from None
