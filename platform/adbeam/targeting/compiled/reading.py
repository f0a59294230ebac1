"""Rules as `read_rules` writes them, read back as columns: millions at once, by Arrow's reader of JSON."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.json as pj

from adbeam.errors import UserError, nearest_name
from adbeam.targeting.features import Features
from adbeam.targeting.rules import TEXT_BYTES

AT_ONCE = 1 << 17
"""Texts that are read at once: their JSON and their columns are held at the same time."""
WORDS = pa.struct([("in", pa.list_(pa.string())), ("not_in", pa.list_(pa.string())), ("missing", pa.bool_())])
RANGE = pa.struct([("from", pa.float64()), ("to", pa.float64()), ("missing", pa.bool_())])
OTHERS = [
    ("start", pa.int64()), ("end", pa.int64()), ("hours", pa.list_(pa.string())), ("timezone", pa.string()),
    ("scenes", pa.list_(pa.string())),
]  # fmt: skip


class UndeclaredFeatures(UserError):
    """Rules of ads ask for features that are not declared, or declared as another kind: settings are wrong."""


def columns_of(texts: pa.Array | pa.ChunkedArray, features: Features) -> pa.Table:
    """One row a text, none of them null; a column each for features and OTHERS.

    Raises UndeclaredFeatures for a feature that is none of `features` or of another kind, UserError for what is no
    rule.
    """
    schema = pa.schema([*((name, RANGE if f.kind == "number" else WORDS) for name, f in features.items()), *OTHERS])
    return pa.concat_tables([schema.empty_table(), *_read(texts, schema)])


def _read(texts: pa.Array | pa.ChunkedArray, schema: pa.Schema) -> Iterator[pa.Table]:
    for start in range(0, len(texts), AT_ONCE):
        lines = "\n".join(texts.slice(start, AT_ONCE).to_pylist()).encode()
        try:
            found = pj.read_json(
                pa.BufferReader(lines),
                pj.ReadOptions(block_size=16 * TEXT_BYTES),
                pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer"),
            )
        except pa.ArrowInvalid as error:
            raise UserError(f"holds what are no rules: {error}", field="targeting", remedy="prepare again") from None
        _check(found.schema, schema)
        yield found.select(schema.names)


def _check(found: pa.Schema, declared: pa.Schema) -> None:
    for field in found:
        if field.name not in declared.names:
            near = nearest_name(field.name, declared.names)
            raise UndeclaredFeatures(
                f"rules of ads ask for {field.name!r}, which is no declared feature",
                field="features",
                value=declared.names[: -len(OTHERS)],
                remedy=f"declare it there, or mend the rules; the nearest name is {near!r}",
            )
        if field.type != declared.field(field.name).type:
            kind = "a number" if declared.field(field.name).type == RANGE else "no number"
            raise UndeclaredFeatures(
                f"rules of ads take it for another kind: it is declared as {kind}",
                field=f"features.{field.name}.kind",
                remedy="declare it as where the rules were checked",
            )
