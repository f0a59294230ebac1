"""Ads that stand only in the log: the catalogue is then every item of a row that passes all checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from adbeam.logs.catalogue import feature_schema, validate_items
from adbeam.logs.config import TableConfig
from adbeam.logs.ids.columns import id_texts, nobody_set
from adbeam.logs.reading import Fragment, read_chunks
from adbeam.logs.validate import EventRules, validate_events, whole_column
from adbeam.ray_data import progress
from adbeam.records import CATALOGUE_SCHEMA
from adbeam.targeting.features import FeatureConfig

_PAIRS = pa.schema([pa.field("item_id", pa.string()), pa.field("item_kind", pa.string())])


def items_of_log(
    fragments: Sequence[Fragment],
    config: TableConfig,
    batch_rows: int,
    latest_ms: int,
    nobody: Collection[str],
    told: Mapping[str, FeatureConfig],
) -> pa.Table:
    """The catalogue of a log's own items, as CATALOGUE_SCHEMA; only distinct items are held.

    An item is an ad unless every row that names it says organic; its title is its id. No row is left where none of
    the log is good: the preparation then tells the rows' own reasons. `told` are as of `Source`.
    """
    found = _PAIRS.empty_table()
    chunks = (chunk for fragment in fragments for chunk in read_chunks(fragment, config, batch_rows, nobody))
    for chunk in progress.told(chunks, None, "rows of the log, for its items", size=lambda chunk: chunk.rows_in):
        if chunk.table.num_rows:
            pairs = _pairs(chunk.table, config, latest_ms, nobody, told)
            found = pa.concat_tables([found, pairs]).group_by(_PAIRS.names, use_threads=False).aggregate([])
    flagged = found.append_column("is_ad", pc.equal(found["item_kind"], "ad"))
    items = flagged.group_by("item_id", use_threads=False).aggregate([("is_ad", "max")])
    kinds = pc.if_else(items["is_ad_max"], "ad", "organic")
    table, _ = validate_items(pa.table({"item_id": items["item_id"], "kind": kinds}), pa.schema([]))
    return table.cast(CATALOGUE_SCHEMA)


def _pairs(
    raw: pa.Table, config: TableConfig, latest_ms: int, nobody: Collection[str], told: Mapping[str, FeatureConfig]
) -> pa.Table:
    """(item, kind) of the good rows of a batch, as if the catalogue held all that it names."""
    ids, _ = id_texts(whole_column(raw, "item_id"), "item_id")
    own = pc.unique(ids.drop_null())
    rules = EventRules(
        config.timestamp_unit,
        latest_ms,
        own,
        pa.array(["ad"] * len(own), pa.string()),
        feature_schema(config),
        nobody_set(nobody),
        config.timezone,
        told,
    )
    return validate_events(raw, rules)[0].select(_PAIRS.names).cast(_PAIRS)
