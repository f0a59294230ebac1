"""Parquet, CSV and JSON Lines as a stream of small Arrow tables with the contract's column names.

CSV cells come as bytes and JSON values as they are, so that one bad value never spoils its file: judging values is
validate's work. A line that is no row at all is handed on as malformed.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.logs.casts import to_text
from adbeam.logs.config import TableConfig
from adbeam.logs.tables.discovery import format_of, list_files, partition_columns

_FRAGMENT_BYTES = 64 << 20
"""A Parquet file is cut between row groups into pieces of about this size, so that one large file makes many tasks."""
_EMPTY_BYTES = 4096
"""A larger file is taken to hold something."""
_PROBE_LINES = 1000
"""JSON lines whose keys are taken for the columns: no line need have them all."""


@dataclass(frozen=True)
class Fragment:
    """One task's share of a table: a whole text file, or some row groups of a Parquet file."""

    path: str
    format: str
    row_groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """Rows as read, and (reason, text) of lines that are no rows."""

    table: pa.Table
    malformed: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, int], ...] = ()


def list_fragments(
    config: TableConfig, field: str, required: tuple[str, ...], optional: tuple[str, ...]
) -> list[Fragment]:
    """The shares of a table; every file is opened and its columns checked first. Empty files have none.

    Raises UserError naming the file that is truncated or the column that is missing, or when all files are empty.
    """
    fragments: list[Fragment] = []
    files = list_files(config, field)
    empty = set(_empty_of(files, config, field))
    if len(empty) == len(set(files)):
        raise UserError(f"{files[0]} is empty", field=f"{field}.path", remedy="remove it or write it again")
    for path in files:
        if path in empty:
            continue
        kind = format_of(path, config, field)
        _check_columns(path, _column_names(path, kind), config, field, required, optional)
        fragments.extend(_split(path, kind))
    return fragments


def empty_files(config: TableConfig, field: str) -> list[Path]:
    """The files that hold nothing, not even a header: what a quiet hour or a task without rows leaves."""
    return _empty_of(list_files(config, field), config, field)


def _empty_of(files: list[Path], config: TableConfig, field: str) -> list[Path]:
    return [path for path in files if _is_empty(path, format_of(path, config, field))]


def _is_empty(path: Path, kind: str) -> bool:
    """No byte, or no text but blank lines; a file that cannot be unpacked is not empty but unreadable."""
    size = path.stat().st_size
    if size == 0 or kind == "parquet" or size > _EMPTY_BYTES:
        return size == 0
    try:
        with _open_text(path) as lines:
            return not any(line.strip() for line in lines)
    except (OSError, EOFError) as error:
        raise unreadable(path, kind, error) from None


def read_chunks(fragment: Fragment, config: TableConfig, batch_rows: int) -> Iterator[Chunk]:
    """The fragment's rows, about `batch_rows` at a time, columns renamed and constants filled in."""
    readers = {"parquet": _read_parquet, "csv": _read_csv, "jsonl": _read_jsonl}
    for chunk in readers[fragment.format](fragment, batch_rows):
        yield Chunk(_rename(chunk.table, config), chunk.malformed)


def _column_names(path: Path, kind: str) -> list[str]:
    """The columns a file offers; opening it is also the check that it is whole enough to read."""
    try:
        if kind == "parquet":
            return list(pq.read_schema(path).names)
        with _open_text(path) as lines:
            if kind == "csv":
                return next(csv.reader(lines), [])
            keys: dict[str, None] = {}
            for line in islice(lines, _PROBE_LINES):
                row, _ = _parse_line(line)
                keys.update(dict.fromkeys(row or {}))
            return list(keys)
    except (pa.ArrowInvalid, OSError, EOFError, UnicodeDecodeError) as error:
        raise unreadable(path, kind, error) from None


def unreadable(path: str | Path, kind: str, error: Exception) -> UserError:
    """The error for a file that is truncated or of another kind."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{path} cannot be read as {kind}: {reason}", remedy="it may be truncated: write it again")


def _check_columns(
    path: Path, names: list[str], config: TableConfig, field: str, required: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    for ours, theirs in config.columns.items():
        if ours not in (*required, *optional):
            known = ", ".join((*required, *optional))
            raise UserError("unknown name", field=f"{field}.columns", value=ours, remedy=f"choose from {known}")
        if theirs not in names:
            raise _missing(path, names, f"{field}.columns.{ours}", theirs)
    for ours in config.values:
        if ours not in (*required, *optional):
            known = ", ".join((*required, *optional))
            raise UserError("unknown name", field=f"{field}.values", value=ours, remedy=f"choose from {known}")
    for ours in required:
        if ours not in config.columns and ours not in names and ours not in config.constants:
            raise _missing(path, names, f"{field}.columns", ours)
    for feature in config.features:
        if feature not in names and feature not in config.constants:
            raise _missing(path, names, f"{field}.features", feature)


def _missing(path: Path, names: list[str], field: str, column: str) -> UserError:
    has = ", ".join(names[:20]) or "none"
    if column in partition_columns(path):
        return UserError(
            f"{path}: {column!r} is the name of its folder alone, which is not read as a column",
            field=field,
            remedy=f"write it into the files, or map it to one of their columns ({has})",
        )
    return UserError(
        f"{path} has no column {column!r}",
        field=field,
        remedy=f"map it to one of its columns ({has}) or give it under constants",
    )


def _split(path: Path, kind: str) -> list[Fragment]:
    if kind != "parquet":
        return [Fragment(str(path), kind)]
    metadata = pq.read_metadata(path)
    fragments, groups, size = [], [], 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        size += metadata.row_group(group).total_byte_size
        if size >= _FRAGMENT_BYTES:
            fragments.append(Fragment(str(path), kind, tuple(groups)))
            groups, size = [], 0
    return [*fragments, Fragment(str(path), kind, tuple(groups))] if groups else fragments


def _read_parquet(fragment: Fragment, batch_rows: int) -> Iterator[Chunk]:
    try:
        with pq.ParquetFile(fragment.path) as file:
            for batch in file.iter_batches(batch_rows, row_groups=list(fragment.row_groups)):
                yield Chunk(pa.Table.from_batches([batch]))
    except (pa.ArrowInvalid, OSError) as error:
        raise unreadable(fragment.path, "Parquet", error) from None


def _read_csv(fragment: Fragment, batch_rows: int) -> Iterator[Chunk]:
    malformed: list[tuple[str, str]] = []

    def keep_aside(row: Any) -> str:
        malformed.append((f"row has {row.actual_columns} cells where {row.expected_columns} are due", row.text))
        return "skip"

    try:
        names = _column_names(Path(fragment.path), "csv")
        with arrow_csv.open_csv(
            pa.input_stream(fragment.path, compression="gzip" if _is_gzip(Path(fragment.path)) else "detect"),
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=max(1 << 20, 64 * batch_rows)),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep_aside),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=True, null_values=[""]
            ),
        ) as reader:
            for batch in reader:
                yield Chunk(pa.Table.from_batches([batch]))
        if malformed:
            yield Chunk(pa.table({}), tuple(malformed))
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise unreadable(fragment.path, "CSV", error) from None


def _read_jsonl(fragment: Fragment, batch_rows: int) -> Iterator[Chunk]:
    try:
        with _open_text(Path(fragment.path)) as lines:
            while batch := list(islice(lines, batch_rows)):
                parsed = [_parse_line(line) for line in batch if line.strip()]
                rows = [row for row, _ in parsed if row is not None]
                texts = [line for line in batch if line.strip()]
                problems = zip(parsed, texts, strict=True)
                malformed = [(problem, text.rstrip("\n")) for (row, problem), text in problems if row is None]
                yield Chunk(_json_table(rows), tuple(malformed))
    except (OSError, EOFError) as error:
        raise unreadable(fragment.path, "JSON Lines", error) from None


def _parse_line(line: str) -> tuple[dict[str, Any] | None, str]:
    """(row, "") or (None, what is wrong with the line)."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None, "line is not JSON"
    if "\\ud" in line.lower() and not _is_writable(row):
        return None, "line holds half a character (a lone surrogate)"
    return (row, "") if isinstance(row, dict) else (None, "line is not a JSON object")


def _is_writable(row: Any) -> bool:
    """Whether all text of a JSON value is Unicode: an escape may name half of a character, which no file can hold."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_table(rows: list[dict[str, Any]]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _json_column([row.get(name) for row in rows]) for name in names})


def _json_column(values: list[Any]) -> pa.Array:
    """One Arrow type for a column; mixed and nested values become text, which validate then judges."""
    try:
        column = pa.array(values)
        if not pa.types.is_nested(column.type):
            return column
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])


def _rename(table: pa.Table, config: TableConfig) -> pa.Table:
    """Our names for the mapped columns, our words for the mapped values; constants where a column is absent or null."""
    mapped = set(config.columns.values())
    arrays = {name: table.column(name) for name in table.column_names if name not in mapped}
    arrays |= {ours: table.column(theirs) for ours, theirs in config.columns.items() if theirs in table.column_names}
    for name, translation in config.values.items():
        if name in arrays:
            arrays[name] = _translated(arrays[name], translation, name)
    for name, value in config.constants.items():
        arrays[name] = _filled(arrays.get(name), value, table.num_rows)
    return pa.table(arrays)


def _translated(column: pa.ChunkedArray, translation: dict[str, str], name: str) -> pa.Array:
    """The column as text, named values replaced; what is no text becomes null."""
    text, _ = to_text(column.combine_chunks(), name)
    place = pc.index_in(text, value_set=pa.array(list(translation), pa.string()))
    return pc.coalesce(pa.array(list(translation.values()), pa.string()).take(place), text)


def _filled(column: pa.ChunkedArray | None, value: Any, rows: int) -> Any:
    if column is None or pa.types.is_null(column.type):
        return pa.repeat(pa.scalar(value), rows)
    scalar = str(value).encode() if pa.types.is_binary(column.type) else value
    return column.fill_null(pa.scalar(scalar, type=column.type))


def _open_text(path: Path) -> TextIO:
    """Text lines of a plain or gzip file; bytes that are not UTF-8 become replacement characters."""
    if _is_gzip(path):
        return gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="")
    return path.open("rt", encoding="utf-8", errors="replace", newline="")


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")
