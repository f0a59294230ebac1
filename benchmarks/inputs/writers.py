"""Files as bytes: CSV in its dialects, JSON lines and arrays with fields inside objects, Parquet; packed or plain."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import random
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.inputs.base import Row
from benchmarks.inputs.files import File
from benchmarks.inputs.recipe import Writing
from benchmarks.inputs.spelling import MONEY, WHOLE, arrow_type

_MARKS = {"utf-8 marked": "utf-8-sig", "utf-16 marked": "utf-16"}
_QUOTING: dict[str, Literal[0, 1, 2]] = {
    "minimal": csv.QUOTE_MINIMAL,
    "all": csv.QUOTE_ALL,
    "numbers bare": csv.QUOTE_NONNUMERIC,
}


def write_file(file: File, root: Path, draw: random.Random) -> Path:
    """Write it below `root`."""
    path = root / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.writing.format == "parquet":
        table = parquet_table(file, draw)
        group = len(table) + 1 if "view" in file.spellings.values() else 7  # Arrow cannot slice a view
        pq.write_table(table, path, compression=file.writing.packing, row_group_size=group)
    else:
        path.write_bytes(packed(encoded(text_of(file, draw), file.writing), file.writing.packing))
    return path


def text_of(file: File, draw: random.Random) -> str:
    """The text of a CSV or JSON file."""
    if file.writing.format == "csv":
        return csv_text(file)
    nested = [json_row(row, file.writing, draw) for row in file.rows]
    if file.writing.format == "array":
        return json.dumps(nested, ensure_ascii=draw.random() < 0.5, indent=draw.choice([None, 1]))
    plain = draw.random() < 0.5
    return "".join(
        json.dumps(row, ensure_ascii=plain) + file.writing.line_end.replace("\r", "\r\n").replace("\n\n", "\n")
        for row in nested
    )


def csv_text(file: File) -> str:
    """Rows as CSV in the dialect of the file."""
    writing, sink = file.writing, io.StringIO()
    end = "\r\n" if writing.line_end == "\r" else writing.line_end  # else the writer leaves \n bare inside cells
    write = csv.writer(sink, delimiter=writing.delimiter, quoting=_QUOTING[writing.quoting], lineterminator=end)
    extra = ["note", "note", ""] if writing.extras and not writing.headless else []
    numbers = {writing.names[name] for name in (*MONEY, *WHOLE) if name in writing.names}
    if not writing.headless:
        write.writerow([*file.spellings, *extra])
    for row in file.rows:
        write.writerow([*(_csv_cell(row[name], name in numbers, writing) for name in file.spellings), *extra])
    text = sink.getvalue().replace(end, writing.line_end)
    return text if not writing.blank_lines else _with_blank_lines(text, len(file.rows), writing)


def _with_blank_lines(text: str, rows: int, writing: Writing) -> str:
    """A blank line first and last; the last row has no line end where no cell has one."""
    if text.count("\n") + text.count("\r") > (rows + 1) * len(writing.line_end):
        return writing.line_end + text + writing.line_end
    return writing.line_end * 2 + text.replace(writing.line_end, writing.line_end * 2)[: -2 * len(writing.line_end)]


def _csv_cell(value: Any, is_number: bool, writing: Writing) -> Any:
    if value is None:
        return writing.nulls if is_number else ""
    if isinstance(value, bool):
        return str(value)
    if is_number and writing.decimal.endswith(","):
        return str(value).replace(".", ",")
    return value


def json_row(row: Row, writing: Writing, draw: random.Random) -> dict[str, Any]:
    """The row with what is in objects inside them; nothing, null or NaN where a value is missing."""
    numbers = {writing.names.get(column) for column in MONEY}
    nested: dict[str, Any] = {"extra": {"list": [1, {"a": None}]}, "tags": [[], "x"]} if writing.extras else {}
    for name, value in row.items():
        if value is None and draw.random() < 0.5:
            continue
        if value is None and name in numbers and draw.random() < 0.3:
            value = math.nan
        place = nested
        *outer, last = name.split(".")
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def parquet_table(file: File, draw: random.Random) -> pa.Table:
    """The rows as typed columns; dotted names become fields of structs."""
    ours = {theirs: name for name, theirs in file.writing.names.items()}
    arrays: dict[str, pa.Array] = {}
    structs: dict[str, dict[str, pa.Array]] = {}
    for name, spelling in file.spellings.items():
        values = [row[name] for row in file.rows]
        array = _array(values, ours[name], spelling, draw)
        outer, _, inner = name.rpartition(".")
        if outer:
            structs.setdefault(outer, {})[inner] = array
        else:
            arrays[name] = array
    arrays |= {name: pa.StructArray.from_arrays(list(inner.values()), names=list(inner))
               for name, inner in structs.items()}  # fmt: skip
    if file.writing.extras:
        arrays["extra"] = pa.array([{"a": [1, 2]}] * len(file.rows))
    return pa.table(arrays)


def _array(values: list[Any], column: str, spelling: str, draw: random.Random) -> pa.Array:
    known = next((value for value in values if value is not None), None)
    if (column in MONEY or column == "request_id") and spelling == "float":
        values = [math.nan if value is None and draw.random() < 0.5 else value for value in values]
    if isinstance(known, bool):
        return pa.array(values, pa.bool_())
    if isinstance(known, int) and spelling in ("text", "large text", "bytes", "dictionary", "view"):
        return pa.array(values, pa.int32())
    if isinstance(known, Decimal) and spelling == "decimal":
        return pa.array(values, pa.decimal128(20, 4))
    return pa.array(values, arrow_type(column, spelling))


def encoded(text: str, writing: Writing) -> bytes:
    """In the file's encoding, with its byte order mark where it has one; lone surrogates stand for single bytes."""
    codec = _MARKS.get(writing.encoding, writing.encoding)
    return text.encode(codec, "surrogateescape" if codec.startswith("utf-8") else "strict")


def packed(data: bytes, packing: str) -> bytes:
    """Compressed as its ending says."""
    if packing == "gz":
        return gzip.compress(data, mtime=0)
    if packing == "gz members":
        middle = len(data) // 2
        return gzip.compress(data[:middle], mtime=0) + gzip.compress(data[middle:], mtime=0)
    if packing == "zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return bytes(sink.getvalue())
    return data
