"""A quote too many costs its own row and never those behind it; text with line ends and quotes is read as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from adbeam.logs.config import TableConfig
from adbeam.logs.reading import list_table, read_chunks
from adbeam.logs.tables.csv_quotes import is_sound, records

HEADER = "user_id,item_id,scene\n"
OTHERS = [(f"u{number}", "b", "x") for number in range(40)]
CLEAN = "".join(",".join(row) + "\n" for row in OTHERS)


def _read(path: Path, text: str, codec: str = "utf-8") -> tuple[list[tuple[object, ...]], list[tuple[str, str]]]:
    path.write_bytes(text.encode(codec, "surrogateescape"))
    config = TableConfig.parse({"path": str(path)})
    parts = list_table(config, "logs.files.events", ("user_id", "item_id"), ("scene",)).fragments
    chunks = [chunk for part in parts for chunk in read_chunks(part, config, 7)]
    rows = [tuple(row.values()) for chunk in chunks for row in chunk.table.to_pylist()]
    shown = [
        tuple(cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in row) for row in rows
    ]
    return shown, [problem for chunk in chunks for problem in chunk.malformed]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "row", ['u,a,"home', '"u,a,home', 'u,"a,home', 'u,a,"say \\"hi\\", x"', 'u,a,"say \\"hi\\" x"']
)
@pytest.mark.parametrize("end", ["", 'v,c,"y"\nw,"two\nlines",\n'])
def test_a_stray_quote_costs_one_row(tmp_path, row, end, codec):
    rows, malformed = _read(tmp_path / "log.csv", HEADER + row + "\n" + CLEAN + end, codec)
    assert rows == [*OTHERS, *([("v", "c", "y"), ("w", "two\nlines", None)] if end else [])]
    ((reason, text),) = malformed
    assert "does not close" in reason and text.strip() == row


def test_rows_of_another_width_and_bytes_that_are_no_text_stay_what_they_were(tmp_path):
    rows, malformed = _read(tmp_path / "log.csv", HEADER + 'u,a,"x\n1,2\n\nu\udcff,a,\n')
    assert rows == [("u\ufffd", "a", None)]
    assert [reason for reason, _ in malformed][1] == "row has 2 cells where 3 are due"


@pytest.mark.parametrize("text", ['5" disc,a,x\n', '"a ""b""",c,"d\ne"\n', '"C:\\",a,x\n', '"a" ,b,c\n', "a,b,c"])
def test_quotes_that_close_are_sound(tmp_path, text):
    (tmp_path / "log.csv").write_text(HEADER + text)
    assert is_sound(tmp_path / "log.csv", TableConfig.parse({"path": "x"}), ",")


def test_of_many_stray_quotes_each_costs_one_row():
    lines = ['a,"b\n', "c,d\n"] * 300
    found = list(records(iter(lines), ","))
    assert [text for _, text in found] == lines
    assert [cells for cells, _ in found] == [None, ["c", "d"]] * 300


def test_a_cell_longer_than_any_text_is_a_stray_quote():
    lines = ['a,"b\n', *["c,d\n"] * 400_000, 'e,"f"\n']
    found = records(iter(lines), ",")
    assert next(found) == (None, 'a,"b\n') and next(found) == (["c", "d"], "c,d\n")


def test_blank_lines_before_the_header_are_no_header(tmp_path):
    assert _read(tmp_path / "log.csv", "\n\n" + HEADER + CLEAN) == (OTHERS, [])
