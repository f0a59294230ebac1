"""Ids of events that bring none: a hash of the row as JSON, the same in every version.

The JSON is joined from columns and not written row by row: text that needs no escape is put between quotes as it is,
and of everything else each distinct value is written once.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

_ESCAPED = np.array([not 0x20 <= byte <= 0x7E or byte in b'"\\' for byte in range(256)])
"""Bytes that JSON of ASCII characters writes in another way."""


def content_ids(events: pa.Table) -> pa.Array:
    """For each row 24 hexadecimal digits: blake2b of `json.dumps` of the row as a dictionary."""
    rows = _json_rows(events).cast(pa.binary()).to_pylist()
    return pa.array([hashlib.blake2b(row, digest_size=12).hexdigest() for row in rows], pa.string())


def _json_rows(events: pa.Table) -> pa.Array:
    """The rows as JSON text; what is the same in all of them is joined once."""
    parts: list[pa.Array | str] = []
    fixed = "{"
    for name in events.column_names:
        before, values, behind = _json_values(_one_chunk(events.column(name)))
        fixed += f"{json.dumps(name)}: {before}"
        if values is not None:
            parts += [fixed, values]
            fixed = ""
        fixed += f"{behind}, "
    end = pa.array([fixed.removesuffix(", ") + "}"] * events.num_rows, pa.string())
    return pc.binary_join_element_wise(*parts, end, "")


def _json_values(values: pa.Array) -> tuple[str, pa.Array | None, str]:
    """(before, text of each value, behind) that together are the value as JSON."""
    if values.null_count == len(values):
        return "null", None, ""
    if pt.is_integer(values.type):
        return "", pc.fill_null(values.cast(pa.string()), "null"), ""
    if pt.is_string(values.type) and not values.null_count and not _ESCAPED[_bytes_of(values)].any():
        return '"', values, '"'
    return "", pc.fill_null(_json_of_distinct(values), "null"), ""


def _json_of_distinct(values: pa.Array) -> pa.Array:
    real = pt.is_float64(values.type)
    encoded = (values.view(pa.int64()) if real else values).dictionary_encode()  # by bits: 0.0 is not -0.0
    distinct = encoded.dictionary.view(pa.float64()) if real else encoded.dictionary
    text = [json.dumps(value, default=str) for value in distinct.to_pylist()]
    return pa.array(text, pa.string()).take(encoded.indices)


def _bytes_of(text: pa.Array) -> np.ndarray:
    """The bytes of all values, one after the other."""
    data = text.buffers()[2]
    if not len(text) or data is None:
        return np.zeros(0, dtype=np.uint8)
    offsets = np.frombuffer(text.buffers()[1], dtype=np.int32)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]]


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
