"""CSV as small Arrow tables of bytes: judging values is validate's work, a row of another width is handed on.

Which sign stands between cells and which before decimals is set, or told by the file: a delimiter only where the
columns that the configuration asks for are found with it and not with a comma.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv

from adbeam.errors import UserError
from adbeam.logs.config import TableConfig
from adbeam.logs.tables.csv_quotes import is_sound, records
from adbeam.logs.tables.fragments import DAMAGE, Chunk, Fragment, unreadable
from adbeam.logs.tables.text_files import encoding_of, is_text, open_bytes, open_text, shown

csv.field_size_limit(16 << 20)  # Python's own limit, 131,072 characters, ends the reading of a file
DELIMITERS = (",", ";", "\t", "|")
KIND = "CSV"
MOST_OF_A_ROW = 1 << 27
"""Bytes of the longest row that is read."""
_LARGER = 8
_LONG_ROW = "straddl"
"""What Arrow says of a row that is longer than its block."""
_SAMPLE_ROWS = 1000
_WIDTH = "row has {} cells where {} are due"
_UNCLOSED = 'a quote in the row does not close at the end of a cell (a quote inside quotes is written "")'
_DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d+\s*")
_DECIMAL_POINT = re.compile(r"\s*-?\d*\.\d+\s*")


def header(path: Path, config: TableConfig, wanted: set[str]) -> tuple[list[str], str]:
    """(column names, delimiter) of a file; `wanted` are the columns without which it is of no use."""
    if config.column_names:
        return list(config.column_names), "," if config.delimiter == "auto" else config.delimiter
    with open_text(path, config.encoding) as lines:
        first = next((line for line in lines if line.strip()), "")
        if not is_text(first):
            raise UserError(f"{path}: its header line is not UTF-8 text", remedy="set encoding to the file's own")
        return _header(first, lines, config, wanted)


def _header(first: str, more: Iterator[str], config: TableConfig, wanted: set[str]) -> tuple[list[str], str]:
    rest = list(islice(more, 20)) if first.count('"') % 2 else []  # a name may go over lines
    found = {sign: next(csv.reader([first, *rest], delimiter=sign), []) for sign in DELIMITERS}
    if config.delimiter != "auto":
        return next(csv.reader([first, *rest], delimiter=config.delimiter), []), config.delimiter
    fitting = [sign for sign in DELIMITERS if wanted <= set(found[sign])]
    sign = fitting[0] if fitting else ","
    return found[sign], sign


def decimal_of(path: Path, config: TableConfig, delimiter: str, numbers: set[str]) -> str:
    """The sign before decimals: the one set, or a comma where cells of the columns `numbers` can mean nothing else.

    12,50 is a decimal comma; 1,234 may be a thousand, so it alone decides nothing.
    """
    if config.decimal != "auto":
        return config.decimal
    with open_text(path, config.encoding) as lines:
        rows = csv.reader(lines, delimiter=delimiter)
        names = list(config.column_names) or next((row for row in rows if row), [])
        places = [place for place, name in enumerate(names) if name in numbers]
        cells = [row[place] for row in islice(rows, _SAMPLE_ROWS) for place in places if place < len(row)]
    commas = [cell for cell in cells if _DECIMAL_COMMA.fullmatch(cell)]
    sure = any(len(cell.strip().split(",")[1]) != 3 for cell in commas)
    return "," if sure and not any(_DECIMAL_POINT.fullmatch(cell) for cell in cells) else "."


def read_csv(fragment: Fragment, config: TableConfig, batch_rows: int) -> Iterator[Chunk]:
    """The file's rows, a block of bytes at a time; a row of more or fewer cells than the header is malformed."""
    path, malformed = Path(fragment.path), []  # type: Path, list[tuple[str, str]]
    try:
        names, _ = header(path, config.model_copy(update={"delimiter": fragment.delimiter}), set())
        if not _holds_rows(path, config):
            return
        if not is_sound(path, config, fragment.delimiter):
            yield from _read_with_care(path, config, fragment.delimiter, names, batch_rows)
            return
        for batch in _batches(path, config, fragment.delimiter, names, max(1 << 20, 64 * batch_rows), malformed):
            yield Chunk(pa.Table.from_batches([batch]))
        if malformed:
            yield Chunk(pa.table({}), tuple(malformed))
    except DAMAGE as error:
        raise unreadable(path, KIND, error) from None


def _batches(
    path: Path,
    config: TableConfig,
    delimiter: str,
    names: list[str],
    block_bytes: int,
    malformed: list[tuple[str, str]],
) -> Iterator[pa.RecordBatch]:
    """The rows of a sound file; where one is longer than a block, the file is read on in larger blocks.

    `malformed` is filled with the rows of another width.
    """
    given = 0
    while True:
        malformed.clear()
        known = given
        try:
            with _open_arrow(path, config, delimiter, names, block_bytes, malformed) as reader:
                for batch in reader:
                    again = min(known, batch.num_rows)
                    known, given = known - again, given + batch.num_rows - again
                    if not again or again < batch.num_rows:
                        yield batch.slice(again) if again else batch
            return
        except pa.ArrowInvalid as error:
            if _LONG_ROW not in str(error):
                raise
            if block_bytes >= MOST_OF_A_ROW:
                raise UserError(
                    f"{path} has a row of more than {MOST_OF_A_ROW >> 20} MiB, behind row {given:,}",
                    remedy="write that row again, or leave it out: so much is no row",
                ) from None
            block_bytes = min(_LARGER * block_bytes, MOST_OF_A_ROW)


def _open_arrow(
    path: Path,
    config: TableConfig,
    delimiter: str,
    names: list[str],
    block_bytes: int,
    malformed: list[tuple[str, str]],
) -> arrow_csv.CSVStreamingReader:
    def keep_aside(row: Any) -> str:
        malformed.append((_WIDTH.format(row.actual_columns, row.expected_columns), row.text))
        return "skip"

    return arrow_csv.open_csv(
        open_bytes(path),
        read_options=arrow_csv.ReadOptions(
            use_threads=False,
            block_size=block_bytes,
            column_names=list(config.column_names) or None,
            encoding=_arrow_encoding(encoding_of(path, config.encoding)),
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=keep_aside
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=True, null_values=[""]
        ),
    )


def _holds_rows(path: Path, config: TableConfig) -> bool:
    """Whether there is a line behind the header; Arrow takes a header alone without a line end for damage."""
    with open_text(path, config.encoding) as lines:
        written = (line for line in lines if line.strip())
        return len(list(islice(written, 1 if config.column_names else 2))) > (0 if config.column_names else 1)


def _read_with_care(
    path: Path, config: TableConfig, delimiter: str, names: list[str], batch_rows: int
) -> Iterator[Chunk]:
    """As read_csv, of a file with quotes that do not close: their lines are malformed, those behind them are rows."""
    with open_text(path, config.encoding) as lines:
        found = records(lines, delimiter)
        if not config.column_names:
            next(found, None)
        while batch := list(islice(found, batch_rows)):
            rows = [cells for cells, _ in batch if cells is not None and len(cells) == len(names)]
            malformed = [
                (_UNCLOSED if cells is None else _WIDTH.format(len(cells), len(names)), shown(text))
                for cells, text in batch
                if cells is None or len(cells) != len(names)
            ]
            columns = list(zip(*rows, strict=True)) or [()] * len(names)
            yield Chunk(pa.table([_as_bytes(cells) for cells in columns], names=names), tuple(malformed))


def _as_bytes(cells: Iterable[str]) -> pa.Array:
    return pa.array([cell.encode("utf-8", "surrogateescape") if cell else None for cell in cells], pa.binary())


def _arrow_encoding(codec: str) -> str:
    """Arrow takes UTF-8 as bytes and passes over its mark; other encodings are turned into UTF-8 as they are read."""
    return "utf8" if codec in ("utf-8", "utf-8-sig") else codec
