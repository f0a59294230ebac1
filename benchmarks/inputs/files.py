"""The files of a table: which rows stand in which, under which names, with which columns and types."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from benchmarks.inputs.base import Row
from benchmarks.inputs.recipe import Writing
from benchmarks.inputs.spelling import IDS, ZONE, spelled, unit_of

ENDINGS = {"csv": ".csv", "jsonl": ".jsonl", "array": ".json", "parquet": ".parquet"}
_IN_FOLDERS = {"scenes": "scene", "actions": "action"}
"""The column that stands in the names of folders."""
PACKED = {"gz": ".gz", "gz members": ".gz", "zst": ".zst"}


@dataclass(frozen=True)
class File:
    """One file to write: its cells by their names of the columns, in order, with the spelling of each column."""

    path: str
    rows: list[Row]
    spellings: dict[str, str]
    """By their names."""
    writing: Writing
    told: list[Row]
    """The same rows under the contract's names."""


def table_files(rows: list[Row], writing: Writing, name: str) -> tuple[list[File], list[Row]]:
    """(files, the rows as they then are: None where a file lacks the column)."""
    files: list[File] = []
    for number, (path, part) in enumerate(_parts(rows, writing, name)):
        spellings, part = _drifted(part, writing, number)
        inside = [column for column in spellings if column != _IN_FOLDERS.get(writing.layout)]
        cells = [_cells(row, inside, spellings, writing) for row in part]
        own = replace(writing, packing=_packing(writing, number), format=_format(writing, number))
        ending = ENDINGS[own.format] + (PACKED.get(own.packing, "") if writing.ending == "its own" else "")
        theirs = {writing.names[column]: spellings[column] for column in inside}
        files.append(File(path + ending, cells, theirs, own, part))
    return files, [row for file in files for row in file.told]


def filled(row: Row, constants: Mapping[str, Any]) -> Row:
    """The row with the user's constants where it says nothing."""
    return {name: constants.get(name) if value is None else value for name, value in row.items()}


def settings(writing: Writing, path: str, features: Mapping[str, str]) -> dict[str, Any]:
    """What a user writes into the YAML for these files, and nothing that can be told from them."""
    named = {ours: theirs for ours, theirs in writing.names.items() if ours not in features and ours != theirs}
    if writing.layout in _IN_FOLDERS:
        named[_IN_FOLDERS[writing.layout]] = "surface"
    values = {name: {_key(theirs): ours for ours, theirs in words.items() if ours != "gone astray"}
              for name, words in writing.words.items()}  # fmt: skip
    given: dict[str, Any] = {"path": path, "columns": named, "values": values, "features": dict(features)}
    given["constants"] = writing.constants
    if writing.format == "csv":
        given["delimiter"] = writing.delimiter if writing.delimiter in ":~" or writing.headless else "auto"
        given["decimal"] = "auto" if writing.decimal.startswith("auto") else writing.decimal
        given["column_names"] = list(writing.names.values()) if writing.headless else []
    if writing.format != "parquet" and writing.encoding not in ("utf-8", "utf-8 marked", "utf-16 marked"):
        given["encoding"] = writing.codec
    when = writing.spellings.get("timestamp")
    if when is not None:
        given["timestamp_unit"] = unit_of(when)
        given["timezone"] = ZONE if when in ("iso zone", "ts naive zone") else None
    return given


def _parts(rows: list[Row], writing: Writing, name: str) -> list[tuple[str, list[Row]]]:
    if writing.layout == "file":
        return [(name, rows)]
    if column := _IN_FOLDERS.get(writing.layout):
        found: dict[Any, list[Row]] = {}
        for row in rows:
            found.setdefault(row[column], []).append(row)
        words = writing.words.get(column, {})
        return [(f"{name}/surface={_folder(words.get(value, value))}/part-0", part) for value, part in found.items()]
    size = -(-len(rows) // 4)
    cuts = [start + (rows[start - 1] == rows[start] if start else 0) for start in range(0, len(rows), size)]
    parts = [rows[start:end] for start, end in zip(cuts, [*cuts[1:], len(rows)], strict=True)]
    days = [dt.date(2025, 3, number + 1) for number in range(len(parts))]
    folder = {"days": "{:%Y/%m/%d}/part-0", "hive": "dt={}/part-0", "mixed": "log-{}", "formats": "log-{}"}[
        writing.layout
    ]
    return [(f"{name}/{folder.format(day)}", part) for day, part in zip(days, parts, strict=True)]


def _folder(value: Any) -> str:
    return "__HIVE_DEFAULT_PARTITION__" if value is None else quote(str(value), safe="")


def _format(writing: Writing, number: int) -> str:
    return ("csv", "jsonl", "array")[number % 3] if writing.layout == "formats" else writing.format


def _packing(writing: Writing, number: int) -> str:
    if writing.layout != "mixed" or writing.format == "parquet":
        return writing.packing
    return ("", "gz", "zst")[number % 3]


def _drifted(rows: list[Row], writing: Writing, number: int) -> tuple[dict[str, str], list[Row]]:
    """(spelling of each column of the file with that number, its rows)."""
    spellings = dict(writing.spellings)
    if not number % 2 or writing.drift is None:
        return spellings, rows
    if writing.drift == "order":
        return dict(reversed(spellings.items())), rows
    if writing.drift in ("missing", "null type"):
        rows = [{**row, **dict.fromkeys(writing.dropped)} for row in rows]
        if writing.drift == "null type":
            return spellings | dict.fromkeys(writing.dropped, "null"), rows
        return {name: how for name, how in spellings.items() if name not in writing.dropped}, rows
    if writing.drift == "ids":
        other = {"text": "view", "unsigned": "whole decimal", "float": "unsigned", "whole decimal": "text"}
        if writing.format != "parquet":
            other = {"integer": "text", "float": "integer"}
        return {name: other.get(how, how) if name in IDS else how for name, how in spellings.items()}, rows
    if writing.drift == "dictionary":
        other = {"text": "dictionary", "dictionary": "text", "large text": "dictionary"}
        return {
            name: how if name in ("timestamp", "mobile") else other.get(how, how) for name, how in spellings.items()
        }, rows
    other = {"float": "number text", "number text": "float", "decimal": "float", "integer": "float", "small": "integer"}
    return {name: other.get(how, how) if name in ("price", "bid", "position", "age") else how
            for name, how in spellings.items()}, rows  # fmt: skip


def _cells(row: Row, columns: list[str], spellings: dict[str, str], writing: Writing) -> Row:
    cells: Row = {}
    for name in columns:
        value = row[name]
        words = writing.words.get(name, {})
        if value is not None:
            known = words.get(value, value)
            value = known if words and not isinstance(known, str) else spelled(name, known, spellings[name])
        cells[writing.names[name]] = value
    return cells


def _key(word: Any) -> Any:
    return word if isinstance(word, bool | str) else str(word)
