"""The elements of a file that is one JSON array, without holding more of it than a block of text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from adbeam.errors import UserError
from adbeam.logs.tables.text_files import shown

BLOCK = 1 << 20
"""Characters that are read at a time."""
_MOST_OF_AN_ELEMENT = 16 << 20
"""Characters beyond which an element is taken for damage."""
_BETWEEN = re.compile(r"[ \t\r\n,]*")


def elements(text: TextIO, path: Path) -> Iterator[tuple[Any, str]]:
    """(value, its text) of each element; `text` begins with the array.

    Raises UserError where the array is cut off or broken: behind that place nothing says what belongs together.
    """
    decoder = json.JSONDecoder()
    buffer = text.read(BLOCK)
    place = buffer.index("[") + 1
    while True:
        between = _BETWEEN.match(buffer, place)
        place = between.end() if between else place
        if buffer.startswith("]", place):
            return
        found = _decoded(decoder, buffer, place)
        if found is not None and found[1] < len(buffer):
            value, end = found
            yield value, buffer[place:end]
            place = end
            continue
        block = text.read(BLOCK)
        if not block or len(buffer) - place > _MOST_OF_AN_ELEMENT:
            raise UserError(
                f"{path}: its JSON array is cut off or broken at {shown(buffer[place : place + 60])!r}",
                remedy="write it again, or write one object a line",
            )
        buffer, place = buffer[place:] + block, 0


def _decoded(decoder: json.JSONDecoder, buffer: str, place: int) -> tuple[Any, int] | None:
    try:
        return decoder.raw_decode(buffer, place)
    except (ValueError, RecursionError):
        return None
