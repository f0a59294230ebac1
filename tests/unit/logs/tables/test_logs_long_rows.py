"""Rows of CSV that are longer than the block in which a file is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from adbeam.errors import UserError
from adbeam.logs.config import TableConfig
from adbeam.logs.reading import list_fragments, read_chunks
from adbeam.logs.tables import csv_files

MIB = 1 << 20


def _read(path: Path, **settings: object) -> tuple[list[tuple[str, int]], list[str]]:
    """([(item, length of its title)], reasons of malformed rows), read in blocks of one MiB to begin with."""
    config = TableConfig.parse({"path": str(path), **settings})
    chunks = [
        chunk
        for part in list_fragments(config, "logs.files.catalogue", ("item_id",), ("title",))
        for chunk in read_chunks(part, config, 9)
    ]
    rows = [(row["item_id"].decode(), len(row["title"] or b"")) for chunk in chunks for row in chunk.table.to_pylist()]
    return rows, [reason for chunk in chunks for reason, _ in chunk.malformed]


@pytest.mark.parametrize("before", [0, 1, 300_000])
def test_a_row_longer_than_a_block_is_a_row_and_none_is_read_twice(tmp_path: Path, before: int) -> None:
    rows = [(f"i{number}", 1) for number in range(before)]
    rows += [("long", 3 * MIB), ("next", 2), ("longer", 11 * MIB), ("last", 3)]
    lines = [f"{item},{'x' * length}" for item, length in rows]
    lines[before // 2 : before // 2] = ["too,many,cells"]
    path = tmp_path / "ads.csv"
    path.write_text("\n".join(["item_id,title", *lines]) + "\n")
    assert _read(path) == (rows, ["row has 3 cells where 2 are due"])


def test_a_long_cell_of_several_lines_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    text = "é\n" * 700_000
    path.write_text(f'item_id,title\na,short\nb,"{text[:900_000]}"\nc,"{"é" * 3_000_000}"\n', encoding="latin-1")
    rows, malformed = _read(path, encoding="latin-1")
    assert rows == [("a", 5), ("b", len(text[:900_000].encode())), ("c", 6_000_000)] and not malformed


def test_a_row_beyond_reason_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "MOST_OF_A_ROW", 2 * MIB)
    path = tmp_path / "ads.csv"
    path.write_text(f"item_id,title\na,b\nc,{'x' * 5 * MIB}\n")
    with pytest.raises(UserError, match=r"ads\.csv has a row of more than 2 MiB, behind row 1"):
        _read(path)
