"""CSV whose quotes do not close: one stray quote must not swallow the rows behind it.

A reader takes all from an opening quote to the next one for a cell, line ends too, so that a quote too many makes one
cell of the hundred rows that follow, often without a row of another width. Here such a line is a bad row of its own and
the lines behind it are rows again.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from adbeam.logs.config import TableConfig
from adbeam.logs.tables.text_files import encoding_of, open_bytes, open_text

_BLOCK_BYTES = 1 << 20
_MOST_OF_A_CELL = 1 << 20
"""Characters of a cell of several lines beyond which its quote is taken for a stray one."""

Record = tuple[list[str] | None, str]
"""(cells, text); no cells where a quote does not close, or closes inside a cell."""


def is_sound(path: Path, config: TableConfig, delimiter: str) -> bool:
    """Whether every quote closes at the end of a cell; lines with all quotes in pairs, none behind a backslash, do."""
    if _has_no_quote(path, config.encoding):
        return True
    with open_text(path, config.encoding) as lines:
        if not any(line.count('"') % 2 or '\\"' in line for line in lines):
            return True
    with open_text(path, config.encoding) as lines:
        return all(cells is not None for cells, _ in records(lines, delimiter))


def _has_no_quote(path: Path, encoding: str) -> bool:
    """Whether a file in UTF-8 holds no quote at all: its bytes say so many times as fast as its lines."""
    if encoding_of(path, encoding) not in ("utf-8", "utf-8-sig"):
        return False
    with open_bytes(path) as stream:
        return not any(b'"' in block for block in iter(lambda: stream.read(_BLOCK_BYTES), b""))


def records(lines: Iterator[str], delimiter: str) -> Iterator[Record]:
    """The records of a file, blank lines left out."""
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.taken.clear()
        try:
            cells = next(reader, None)
        except csv.Error:
            yield _broken(source, delimiter)
            continue
        if cells is None:
            return
        if cells:
            yield cells, "".join(source.taken)


def _broken(source: _Lines, delimiter: str) -> Record:
    """The first line of those that were taken; the others are given back."""
    first = source.taken[0]
    if len(source.taken) == 1 and first.count('"') % 2 == 0 and '\\"' not in first:
        return next(csv.reader([first], delimiter=delimiter)), first  # "a" ,b has a blank behind its quote, no more
    source.give_back()
    return None, first


class _Lines:
    """Lines that can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._waiting, self._length = lines, deque[str](), 0
        self.taken: list[str] = []
        """Those of the present record."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if not self.taken:
            self._length = 0
        elif self._length > _MOST_OF_A_CELL:
            raise StopIteration
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        self.taken.append(line)
        self._length += len(line)
        return line

    def give_back(self) -> None:
        """All but the first line of the present record come again."""
        self._waiting.extendleft(reversed(self.taken[1:]))
