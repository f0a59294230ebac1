"""Text of a file: unpacked by what it holds (gzip, zstd), decoded, without a byte order mark.

Bytes that are not text in the file's encoding become lone surrogates, which no text of a file can hold otherwise: the
reader of its lines tells them by that, and no two texts become one.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from adbeam.errors import UserError

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SAMPLE_BYTES = 4096


def compression_of(path: Path) -> str | None:
    """gzip or zstd by the file's first bytes, else by its ending; None where it is plain."""
    with path.open("rb") as file:
        start = file.read(4)
    found = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if found or not start:
        return found
    # An ending that lies is a file that was cut off before its first bytes, or damaged there.
    return {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower()) if _is_binary(start) else None


def open_bytes(path: Path) -> pa.NativeFile:
    """The unpacked bytes as a stream."""
    return pa.input_stream(str(path), compression=compression_of(path))


def encoding_of(path: Path, encoding: str) -> str:
    """The codec of a text file: `encoding`, or for "auto" UTF-8 unless a byte order mark says UTF-16.

    Raises UserError for text that looks like UTF-16 without a mark.
    """
    with open_bytes(path) as stream:
        sample = stream.read(_SAMPLE_BYTES)
    marked = next((name for mark, name in _MARKS if sample.startswith(mark)), None)
    if encoding != "auto":
        return "utf-8-sig" if marked == "utf-8-sig" and codecs.lookup(encoding).name == "utf-8" else encoding
    if marked is None and 0 in sample[:2]:
        looks = "utf-16-be" if sample[:1] == b"\0" else "utf-16-le"
        raise UserError(f"{path} is not UTF-8", remedy=f"set encoding; it looks like {looks}")
    return marked or "utf-8"


def open_text(path: Path, encoding: str) -> TextIO:
    """Text lines of a plain or packed file, line ends as they stand."""
    codec = encoding_of(path, encoding)
    return io.TextIOWrapper(open_bytes(path), encoding=codec, errors="surrogateescape", newline="")


def is_text(text: str) -> bool:
    """Whether all of the text could be decoded."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str) -> str:
    """The text with a replacement character for each byte that could not be decoded."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_binary(start: bytes) -> bool:
    return any(byte < 32 and byte not in b"\t\n\r" for byte in start)
