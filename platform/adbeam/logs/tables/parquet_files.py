"""Parquet as small Arrow tables: shares of row groups, fields inside structs by their path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from adbeam.logs.config import TableConfig
from adbeam.logs.tables.fragments import DAMAGE, Chunk, Fragment, unreadable

KIND = "Parquet"
_FRAGMENT_BYTES = 64 << 20
"""A file is cut between row groups into pieces of about this size, so that one large file makes many tasks."""


def column_names(path: Path) -> list[str]:
    """The columns, and the paths of fields inside structs; opening it is also the check that it is whole enough."""
    names: list[str] = []
    for field in pq.read_schema(path):
        names.extend(_paths(field))
    return names


def split(path: Path) -> list[Fragment]:
    """Shares of a file; none where it has no row group."""
    metadata = pq.read_metadata(path)
    fragments, groups, size = [], [], 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        size += metadata.row_group(group).total_byte_size
        if size >= _FRAGMENT_BYTES:
            fragments.append(Fragment(str(path), "parquet", tuple(groups)))
            groups, size = [], 0
    return [*fragments, Fragment(str(path), "parquet", tuple(groups))] if groups else fragments


def read_parquet(fragment: Fragment, config: TableConfig, batch_rows: int) -> Iterator[Chunk]:
    """The share's rows, `batch_rows` at a time."""
    paths = [name for name in dict.fromkeys(config.asked_for) if "." in name]
    try:
        with pq.ParquetFile(fragment.path) as file:
            for groups in _read_together(file.schema_arrow, fragment.row_groups):
                for batch in file.iter_batches(batch_rows, row_groups=groups):
                    yield Chunk(_with_paths(_whole_text(pa.Table.from_batches([batch])), paths))
    except DAMAGE as error:
        raise unreadable(fragment.path, KIND, error) from None


def _read_together(schema: pa.Schema, row_groups: tuple[int, ...]) -> list[list[int]]:
    """Row groups that a batch may span: a dictionary inside a struct or list is one of its row group, and Arrow joins
    none of several."""
    if any(pt.is_nested(field.type) and "dictionary<" in str(field.type) for field in schema):
        return [[group] for group in row_groups]
    return [list(row_groups)]


def _paths(field: pa.Field, before: str = "") -> Iterator[str]:
    yield before + field.name
    if pt.is_struct(field.type):
        for inner in field.type:
            yield from _paths(inner, f"{before}{field.name}.")


def _with_paths(table: pa.Table, paths: list[str]) -> pa.Table:
    for path in paths:
        if path not in table.column_names and (found := _inside(table, path.split("."))) is not None:
            table = table.append_column(path, found)
    return table


def _inside(table: pa.Table, names: list[str]) -> pa.ChunkedArray | None:
    if table.column_names.count(names[0]) != 1:
        return None
    column = table.column(names[0])
    for name in names[1:]:
        if not pt.is_struct(column.type) or column.type.get_field_index(name) < 0:
            return None
        column = pc.struct_field(column, name)
    return column


def _without_views(kind: pa.DataType) -> pa.DataType:
    """The type with plain text and bytes for Arrow's views of them, which few of its functions know."""
    if pt.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type)) for field in kind])
    if pt.is_list(kind) or pt.is_large_list(kind):
        inner = kind.value_field.with_type(_without_views(kind.value_type))
        return pa.list_(inner) if pt.is_list(kind) else pa.large_list(inner)
    if pt.is_map(kind):
        return pa.map_(_without_views(kind.key_type), _without_views(kind.item_type))
    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)


def _whole_text(table: pa.Table) -> pa.Table:
    """Text that is not UTF-8 as bytes: Parquet does not look, and such a value ends whoever shows it."""
    if any("_view" in str(kind) for kind in table.schema.types):
        columns = [column.cast(_without_views(column.type)) for column in table.columns]
        table = pa.table(columns, names=table.column_names)
    for place, field in enumerate(table.schema):
        if not (pt.is_string(field.type) or pt.is_large_string(field.type)):
            continue
        try:
            table.column(place).validate(full=True)
        except pa.ArrowInvalid:
            table = table.set_column(place, field.name, table.column(place).cast(pa.binary()))
    return table
