"""Damage to a log that was written whole: what should be refused, what costs single rows, what costs nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.inputs.base import Row, is_good
from benchmarks.inputs.files import File
from benchmarks.inputs.writers import csv_text, encoded, packed, parquet_table, text_of


@dataclass
class Written:
    """A log on disk: its settings, its rows as they should be kept, and what else the account has to say."""

    logs: dict[str, Any]
    events: list[Row]
    items: list[Row]
    bad: int = 0
    """Rows beside those of the base that should be quarantined."""
    damaged: bool = False
    """Whether the damage could be done."""
    refused: bool = False
    """Whether it has to be refused."""
    names: list[str] = field(default_factory=list)
    """Of which a refusal has to name one."""


_ESCAPED = {"\ud83d": "\\ud83d"}
Damage = Callable[[Written, File, Path, random.Random], bool]
"""Damages a file that was written at the path; False where it cannot be done to that file."""


def apply(name: str, written: Written, files: list[File], root: Path, draw: random.Random) -> bool:
    """Do the damage to one of the files of events; returns whether it could be done."""
    file = draw.choice(files)
    return DAMAGES[name](written, file, root / file.path, draw)


def empty_part(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """A part beside the others with nothing in it: no byte, a header alone, an empty array, a blank line."""
    if file.writing.layout == "file":
        return False
    kind = file.writing.format
    nothing = {"csv": ["", "\n", "header"], "jsonl": ["", "\n"], "array": ["", "[]"], "parquet": ["", "header"]}[kind]
    what = draw.choice(nothing)
    part = path.with_name("part-9" + "".join(path.suffixes))
    none = File("", [], file.spellings, file.writing, [])
    if kind == "parquet" and what:
        pq.write_table(parquet_table(none, draw), part)
        return True
    text = csv_text(none) if what == "header" else what
    part.write_bytes(b"" if not what else packed(encoded(text, file.writing), file.writing.packing))
    return True


def cut_off(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """The end is missing. Packed files, arrays and Parquet say so; of lines only the last is seen to be short."""
    data = path.read_bytes()
    if file.writing.format in ("parquet", "array") or file.writing.packing:
        path.write_bytes(data[: draw.randrange(max(20, len(data) // 3), len(data) - 1)])
        return _refused(written, path)
    text = _text(file, draw)
    start = text.rstrip("\r\n").rfind(file.writing.line_end)
    short = text[: start + len(file.writing.line_end) + draw.randrange(3, 12)]
    if file.writing.format == "csv" and (file.writing.extras or '"' in text[start:] or "\n" in text[start + 2 : -2]):
        return False
    path.write_bytes(encoded(short, file.writing))
    return _spoilt(written, file, len(file.rows) - 1)


def flipped(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """A byte inside a gzip file, whose sum tells."""
    if file.writing.packing != "gz":
        return False
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data) // 3, len(data) - 8)] ^= 0x55
    path.write_bytes(bytes(data))
    return _refused(written, path)


def zeros(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """Zero bytes behind the last line, as a machine leaves them that lost its power."""
    if file.writing.format not in ("csv", "jsonl"):
        return False
    return _with_line(written, file, path, "\0" * draw.choice([1, 40, 5000]), draw, last=True)


def wrong_line(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """A line that is no row, first or last or between the others."""
    if file.writing.format == "parquet":
        return False
    lines = {
        "csv": ["out of disk", "a" + file.writing.delimiter * 40],
        "jsonl": ["Traceback (most recent call last):", '{"user_id": "u1", ', "17", '["a"]', '"text"', "{}", "null"],
        "array": ["17", '["a"]', "null", "{}"],
    }
    return _with_line(written, file, path, draw.choice(lines[file.writing.format]), draw)


def half_character(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """An escape of half a character in a user's id."""
    if file.writing.format not in ("jsonl", "array"):
        return False
    return _in_cell(written, file, path, "user_id", "u\ud83d", draw)


def wrong_bytes(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """Bytes that are no UTF-8 in a user's id."""
    if file.writing.format == "parquet" or not file.writing.encoding.startswith("utf-8"):
        return False
    return _in_cell(written, file, path, "user_id", "u\udcff\udce9", draw)


def no_number(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """Numbers that no column can hold."""
    if file.writing.format == "parquet":
        return False
    worst: Any
    column, worst = draw.choice([("position", 2**40), ("position", 10**30), ("bid", -1.5), ("timestamp", 10**40)])
    if column == "timestamp" and file.writing.spellings["timestamp"].startswith(("iso", "compact")):
        worst = "the day after"
    return _in_cell(written, file, path, column, worst, draw)


def zero_in_cell(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """A zero byte in a moment."""
    if file.writing.format == "parquet":
        return False
    return _in_cell(written, file, path, "timestamp", "17\x0012", draw)


def stray_quote(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """A quote that opens in one row and closes nowhere, or at the next one."""
    name = file.writing.names["device"]
    if file.writing.format != "csv" or file.writing.quoting == "all" or name not in file.spellings:
        return False
    return _in_cell(written, file, path, "device", "\0", draw, {"\0": draw.choice(['"', '"disc', '"a \\" b"'])})


def two_values(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """A row of JSON that tells two prices."""
    if file.writing.format not in ("jsonl", "array") or file.writing.names["price"] not in file.spellings:
        return False
    inner = file.writing.names["price"].rpartition(".")[2]
    instead = {'"first of two"': f"1.5, {json.dumps(inner)}: 2.5"}
    return _in_cell(written, file, path, "price", "first of two", draw, instead)


def doubled(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """A column that is mapped stands twice."""
    name = file.writing.names["price"]
    if file.writing.format == "csv" and not file.writing.headless and name in file.spellings and '"' not in name:
        rows = [{**row, "\0": row[name]} for row in file.rows]
        twice = File(file.path, rows, {**file.spellings, "\0": ""}, file.writing, file.told)
        path.write_bytes(packed(encoded(csv_text(twice).replace("\0", name, 1), file.writing), file.writing.packing))
    elif file.writing.format == "parquet" and "." not in name and name in file.spellings:
        table = pq.read_table(path)
        pq.write_table(table.append_column(table.schema.field(name), table[name]), path)
    else:
        return False
    return _refused(written, path)


def other_format(written: Written, file: File, path: Path, draw: random.Random) -> bool:
    """What the ending says is not what it is."""
    if file.writing.format == "parquet":
        path.write_bytes(b"user_id,item_id\nu1,a\n")
    else:
        pq.write_table(pa.table({"user_id": ["u1"]}), path)
    return _refused(written, path)


DAMAGES: dict[str, Damage] = {
    damage.__name__.replace("_", " "): damage
    for damage in (
        empty_part, cut_off, flipped, zeros, wrong_line, half_character, wrong_bytes, no_number, zero_in_cell,
        stray_quote, two_values, doubled, other_format,
    )
}  # fmt: skip


def _refused(written: Written, path: Path) -> bool:
    written.refused = True
    written.names = [str(path), "logs."]
    return True


def _spoilt(written: Written, file: File, place: int) -> bool:
    """The row at that place of the file is no row any more."""
    event = file.told[place]
    written.events.pop(next(n for n, row in enumerate(written.events) if row is event))
    written.bad += 1
    return True


def _text(file: File, draw: random.Random) -> str:
    if file.writing.format == "array":
        return json.dumps(json.loads(text_of(file, draw)))
    return text_of(file, draw)


def _with_line(written: Written, file: File, path: Path, line: str, draw: random.Random, last: bool = False) -> bool:
    """The text of the file with one line more."""
    writing = file.writing
    before = "" if writing.format != "csv" or not writing.blank_lines else writing.line_end
    if writing.format == "array":
        text = _text(file, draw)
        text = text.replace("[", f"[{line}, ", 1) if draw.random() < 0.5 else text[:-1] + f", {line}]"
    elif last or writing.format == "csv":
        text = _text(file, draw) + before + line + ("" if last else writing.line_end)
    else:
        text = draw.choice([line + writing.line_end + _text(file, draw), _text(file, draw) + line])
    path.write_bytes(packed(encoded(text, writing), writing.packing))
    written.bad += 1
    return True


def _in_cell(
    written: Written,
    file: File,
    path: Path,
    column: str,
    value: Any,
    draw: random.Random,
    instead: dict[str, str] = _ESCAPED,
) -> bool:
    """The file with that value in one of its rows; `instead` is put in place of what a writer made of it."""
    name = file.writing.names[column]
    known = [n for n, row in enumerate(file.told) if file.told.count(row) == 1 and is_good(row)]
    if name not in file.spellings or not known:
        return False
    place = draw.choice(known)
    rows = [*file.rows]
    rows[place] = {**rows[place], name: value}
    text = text_of(File(file.path, rows, file.spellings, file.writing, file.told), draw)
    for made, put in instead.items():
        text = text.replace(made, put)
    path.write_bytes(packed(encoded(text, file.writing), file.writing.packing))
    return _spoilt(written, file, place)
