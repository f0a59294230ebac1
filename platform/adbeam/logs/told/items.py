"""Declared features of items: read from columns of the catalogue, fitted on what the training split met, as codes.

The catalogue holds them as text and numbers, a list or vector as JSON or with a separator, so that a bundle, a replica
and an ad that comes while it serves are read by one function. An item counts as often as the training split has it.

Shapes: N items, K columns of codes, n items that the training split has, D dimensions.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from adbeam.declared.encoder import FeatureEncoder, FittedFeature
from adbeam.declared.fit import fit_numbers, fit_vectors, fit_words
from adbeam.logs.casts import is_text, plain
from adbeam.logs.config import TableConfig
from adbeam.logs.told.columns import ITEM, check_columns, column_of, told, told_values, with_columns, word_counts
from adbeam.logs.told.encoding import encode_column
from adbeam.logs.told.vectors import Problems
from adbeam.records import CAMPAIGN, CATALOGUE_SCHEMA, SPLITS, CatalogueItem
from adbeam.targeting.features import FeatureConfig, Features

OWN = (*CATALOGUE_SCHEMA.names, CAMPAIGN)
"""Columns of the catalogue's contract."""


def with_item_columns(table: TableConfig, features: Features | None) -> TableConfig:
    """The catalogue's table, asked for the columns of the features of items as well.

    Raises UserError for a column that is declared as another type.
    """
    asked = {name: one for name, one in (features or {}).items() if column_of(name, one) not in OWN}
    return with_columns(table, asked, ITEM, ())


def as_stored(values: pa.Array) -> pa.Array:
    """A column as the catalogue holds it: lists as JSON, all else as it is."""
    values = plain(values)
    if not (pt.is_list(values.type) or pt.is_large_list(values.type) or pt.is_fixed_size_list(values.type)):
        return values
    return pa.array([None if one is None else json.dumps(one) for one in values.to_pylist()], pa.string())


def problems_of(values: pa.Array, column: str, feature: FeatureConfig) -> Problems:
    """(where, reason) of stored values that the model could not be told."""
    return told_values(values, column, feature)[1]


def check_items(features: Features, catalogue: Path) -> None:
    """Raise UserError for a feature of items whose column a staged catalogue lacks, or holds as another kind."""
    schema = pq.read_schema(catalogue)
    lacking = f"the catalogue has no such column, only {', '.join(schema.names)}"
    check_columns(told(features, ITEM), schema, lacking, " of the catalogue", is_text)


def count_items(shard: Path) -> pa.Table:
    """(item_id, count) of the training split's events in one shard of sequences."""
    table = pq.read_table(shard, columns=["split", "item_id"])
    split, item = (pc.list_flatten(table[name]) for name in ("split", "item_id"))
    counts = pc.value_counts(item.filter(pc.equal(split, SPLITS.index("train"))))
    return pa.table({"item_id": counts.field("values"), "count": counts.field("counts")})


def fit_items(catalogue: Path, features: Features, counts: pa.Table) -> tuple[FittedFeature, ...]:
    """The features of items, by name, of a staged catalogue; `counts` are those of all shards."""
    wanted = told(features, ITEM)
    if not wanted:
        return ()
    columns = dict.fromkeys(["item_id", *(column_of(name, one) for name, one in wanted.items())])
    items = pq.read_table(catalogue, columns=list(columns))
    total = counts.group_by("item_id").aggregate([("count", "sum")])
    items = items.join(total, "item_id", join_type="inner").sort_by("item_id")
    return tuple(_fitted(name, one, items) for name, one in wanted.items())


def _fitted(name: str, config: FeatureConfig, items: pa.Table) -> FittedFeature:
    column = column_of(name, config)
    values, _ = told_values(items[column].combine_chunks(), column, config)
    known = values.is_valid()
    values, count_n = values.filter(known), items["count_sum"].filter(known).to_numpy()
    if config.kind == "number":
        number_n = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return fit_numbers(name, config, number_n, count_n.astype(np.float64))
    if config.kind == "vector":
        x_nD = pc.list_flatten(values).to_numpy(zero_copy_only=False).reshape(len(values), -1)
        return fit_vectors(name, config, x_nD)
    return fit_words(name, config, word_counts(values, config, count_n).items())


def item_codes(items: pa.Table, encoder: FeatureEncoder | None) -> np.ndarray:
    """int32 [N, K]: the codes of catalogue rows, in training, evaluation, rewards and serving; a column that the table
    lacks is missing."""
    parts = [np.zeros((items.num_rows, 0), np.int32)]
    for one in encoder.items if encoder else ():
        column = one.column or one.name
        has = column in items.column_names
        values = items[column].combine_chunks() if has else pa.nulls(items.num_rows)
        parts.append(encode_column(one, told_values(values, column, _declared(one))[0]))
    return np.concatenate(parts, axis=1)


def codes_of(item: CatalogueItem, encoder: FeatureEncoder | None) -> tuple[int, ...]:
    """The same of an ad that comes while a model is served."""
    if encoder is None or not encoder.items:
        return ()
    row = {**item.features, **item.model_dump(mode="json", include=set(OWN))}
    wanted = {one.column or one.name for one in encoder.items}
    table = pa.table({name: pa.array([row.get(name)]) for name in wanted})
    return tuple(item_codes(table, encoder)[0].tolist())


def _declared(one: FittedFeature) -> FeatureConfig:
    """As much of the declaration as reading a value takes."""
    if one.kind == "vector":
        return FeatureConfig(kind="vector", source="item", model=True, dimensions=one.dimensions, parts=one.columns)
    if one.kind == "list" and one.separator:
        return FeatureConfig(kind="list", source="item", model=True, separator=one.separator)
    return FeatureConfig(kind=one.kind, source="item", model=True)
