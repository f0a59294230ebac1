"""JSON Lines, or one JSON array of objects, as small Arrow tables.

Values come as they are, so that one bad value never spoils its file. A field inside objects is named by its path
(`user.id`); a line that is no row, or whose id is no id, is handed on as malformed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from adbeam.logs.config import TableConfig
from adbeam.logs.tables.fragments import DAMAGE, Chunk, Fragment, unreadable
from adbeam.logs.tables.json_arrays import BLOCK, elements
from adbeam.logs.tables.text_files import is_text, open_text, shown
from adbeam.records import CATALOGUE_SCHEMA, EVENT_SCHEMA

KIND = "JSON Lines"
_PROBE_LINES = 1000
"""Rows whose keys are taken for the columns: none need have them all."""
_NOT_UTF8 = "line is not UTF-8 text (set encoding if the file is in another)"
_IDS = ("user_id", "item_id", "event_id", "request_id")
_NO_ID = {dict: "an object", list: "a list", bool: "a boolean"}
_INEXACT = "a number with a fraction, or too large to be exact"
_NESTED = (dict, list)
_KEY_ENDS = re.compile(r'"\s*:').findall
_EXACT_BELOW = 2**53

Row = tuple[dict[str, Any] | None, str, str]
"""(the row, what is wrong with it, its text); a row is None where something is wrong."""


def column_names(path: Path, config: TableConfig) -> list[str]:
    """Keys of the first rows, and paths to what is inside their objects."""
    keys: dict[str, None] = {}
    for row, _, _ in islice(_rows(path, config), _PROBE_LINES):
        keys.update(dict.fromkeys(_paths(row or {})))
    return list(keys)


def finds_later(path: Path, config: TableConfig, column: str) -> bool:
    """Whether any row of the whole file has `column`; lines that cannot have it are not parsed."""
    first = column.split(".")[0]
    spelled = {json.dumps(name, ensure_ascii=ascii_only) for name in (column, first) for ascii_only in (True, False)}
    return any(_has(row, column) for row, _, _ in _rows(path, config, spelled) if row)


def read_json(fragment: Fragment, config: TableConfig, batch_rows: int) -> Iterator[Chunk]:
    """The file's rows, `batch_rows` at a time."""
    paths = [name for name in dict.fromkeys(config.asked_for) if "." in name]
    ids = {theirs: name for name in _IDS for theirs in config.theirs(name)}
    try:
        rows = _rows(Path(fragment.path), config)
        while batch := list(islice(rows, batch_rows)):
            judged = [_with_paths(row, paths) for row in batch] if paths else batch
            doubtful = {theirs: ours for theirs, ours in ids.items() if not _plain_ids(judged, theirs)}
            judged = [_with_ids(row, doubtful) for row in judged] if doubtful else judged
            good = [row for row, _, _ in judged if row is not None]
            malformed = [(problem, shown(text)) for row, problem, text in judged if row is None]
            yield Chunk(_table(good), tuple(malformed))
    except DAMAGE as error:
        raise unreadable(fragment.path, KIND, error) from None


def _rows(path: Path, config: TableConfig, spelled: Iterable[str] = ()) -> Iterator[Row]:
    """All rows of a file; of its lines only those that hold one of the texts in `spelled`, where it names any."""
    read = _read_keys(config)
    with open_text(path, config.encoding) as text:
        start = _first_character(text)
        if start == "[" and _is_array(path, config):
            with open_text(path, config.encoding) as whole:
                yield from (_judged(value, part, read) for value, part in elements(whole, path))
            return
    with open_text(path, config.encoding) as lines:
        for line in lines:
            if line.strip() and (not spelled or any(part in line for part in spelled)):
                yield _parse_line(line, read)


def _first_character(text: TextIO) -> str:
    while block := text.read(256):
        if found := block.strip():
            return found[0]
    return ""


def _is_array(path: Path, config: TableConfig) -> bool:
    """Whether a file that begins with [ is one array: a first line that is a list of its own, among others, is not."""
    with open_text(path, config.encoding) as lines:
        first = next((line for line in iter(lambda: lines.readline(BLOCK), "") if line.strip()), "")
        return not any(line.strip() for line in lines) or not isinstance(_parsed(first), list)


def _parse_line(line: str, read: frozenset[str]) -> Row:
    text = line.rstrip("\n")
    if not is_text(line):
        return None, _NOT_UTF8, text
    value = _parsed(line)
    if value and type(value) is dict and "\\u" not in line and _holds_each_key_once(line, value):
        return value, "", text
    return (None, "line is not JSON", text) if value is _parsed else _judged(value, text, read)


def _parsed(line: str) -> Any:
    """The value of a line; this function itself, which no JSON holds, where it is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _parsed


def _judged(value: Any, text: str, read: frozenset[str]) -> Row:
    if not is_text(text):
        return None, _NOT_UTF8, text
    if "\\ud" in text.lower() and not _is_writable(value):
        return None, "line holds half a character (a lone surrogate)", text
    if not isinstance(value, dict):
        return None, "line is not a JSON object", text
    if not value:
        return None, "line is an object without fields", text
    twice = _told_twice(text, value, read)
    return (None, f"line has two values of {twice!r}", text) if twice else (value, "", text)


def _read_keys(config: TableConfig) -> frozenset[str]:
    """Names of the fields that are read, whatever object they are in."""
    parts = (part for name in config.asked_for for part in name.split("."))
    return frozenset((*EVENT_SCHEMA.names, *CATALOGUE_SCHEMA.names, *parts))


def _told_twice(text: str, value: dict[str, Any], read: frozenset[str]) -> str | None:
    """A field of `read` that one object has twice with different values, of which Python's reader keeps the last."""
    if _holds_each_key_once(text, value):
        return None
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            found.extend(name for name, told in pairs if name in read and told != fields[name])
        return fields

    json.loads(text, object_pairs_hook=look)
    return found[0] if found else None


def _holds_each_key_once(text: str, value: dict[str, Any]) -> bool:
    """Whether a text has no more keys than its value, those of objects inside included; seldom wrong to say no."""
    if text.count(":") <= len(value):
        return True
    told = len(_KEY_ENDS(text))
    keys, inside = len(value), [inner for inner in value.values() if type(inner) in _NESTED]
    while inside:
        inner = inside.pop()
        if type(inner) is dict:
            keys += len(inner)
        inside += [value for value in (inner.values() if type(inner) is dict else inner) if type(value) in _NESTED]
    return told <= keys


def _is_writable(row: Any) -> bool:
    """Whether all text of a JSON value is Unicode: an escape may name half of a character, which no file can hold."""
    return is_text(json.dumps(row, ensure_ascii=False))


def _with_paths(judged: Row, paths: list[str]) -> Row:
    """The row with a column for each path."""
    row = judged[0]
    for path in paths if row is not None else ():
        if row is not None and path not in row and (found := _inside(row, path)) is not None:
            row[path] = found
    return judged


def _plain_ids(judged: list[Row], column: str) -> bool:
    """Whether a column of ids is text and whole numbers throughout, as nearly always."""
    return {type(row.get(column)) for row, _, _ in judged if row is not None} <= {str, int, type(None)}


def _with_ids(judged: Row, ids: dict[str, str]) -> Row:
    """The row with whole numbers as such; no row where an id is no text and no whole number."""
    row, _, text = judged
    if row is None:
        return judged
    for theirs, ours in ids.items():
        value = row.get(theirs)
        if isinstance(value, str | None):
            continue
        if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_BELOW:
            row[theirs] = int(value)  # 17.0 is 17, whatever stands in the other rows
        elif type(value) is not int:
            return None, f"{ours} is {_NO_ID.get(type(value), _INEXACT)}, no id", text
    return row, "", text


def _inside(row: dict[str, Any], path: str) -> Any:
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _has(row: dict[str, Any], column: str) -> bool:
    return column in row or column in _paths(row)


def _paths(row: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, value in row.items():
        yield before + name
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{name}.")


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    """One Arrow type for a column; mixed and nested values become text, which validate then judges."""
    try:
        column = pa.array(values)
        if not pa.types.is_nested(column.type):
            return column
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])
