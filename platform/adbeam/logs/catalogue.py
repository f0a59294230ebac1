"""The catalogue of a log: read, checked row by row, one row an item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.logs.ads.active_dates import ACTIVE_DATES, ActiveDates
from adbeam.logs.ads.rules_column import read_column
from adbeam.logs.casts import to_text
from adbeam.logs.config import FILE_ORDER, TableConfig
from adbeam.logs.items.versions import SEVERAL_ROWS, ages, newest, remedy_for_several, version_column
from adbeam.logs.reading import list_fragments, read_chunks
from adbeam.logs.told.columns import kinds_of
from adbeam.logs.told.items import as_stored, problems_of
from adbeam.logs.validate import (
    FEATURE_TYPES,
    ID_LENGTH,
    NOT_TEXT,
    QUARANTINE_SCHEMA,
    Reasons,
    cast_feature,
    check_amount,
    check_text,
    check_word,
    malformed_rows,
    quarantine_rows,
    whole_column,
    with_encoding,
)
from adbeam.ray_data import progress
from adbeam.records import CAMPAIGN, CATALOGUE_SCHEMA, ITEM_KINDS, Status
from adbeam.targeting.features import FeatureConfig, Features, told_by_requests
from adbeam.targeting.rules import TARGETING
from adbeam.workdir import QUARANTINE

REQUIRED = ("item_id",)
OPTIONAL = (*(name for name in CATALOGUE_SCHEMA.names if name not in REQUIRED), CAMPAIGN, TARGETING, *ACTIVE_DATES)
TITLE_LENGTH = 2048
QUARANTINE_FILE = f"{QUARANTINE}/catalogue.parquet"
_ROW_GROUP = 65536


@dataclass(frozen=True)
class _OfAds:
    """What is read of whom an ad is for: rules over the features `targeted`, active dates; None is not read. `told` are
    columns that the model is told of."""

    targeted: Features | None = None
    dates: ActiveDates | None = None
    told: Mapping[str, FeatureConfig] = field(default_factory=dict)

    @property
    def rules(self) -> bool:
        """Whether the rows have a column of rules."""
        return self.targeted is not None or self.dates is not None


def feature_schema(config: TableConfig) -> pa.Schema:
    """Arrow types of the declared feature columns."""
    return pa.schema([pa.field(name, FEATURE_TYPES[kind]) for name, kind in config.features.items()])


def read_catalogue(
    config: TableConfig, field: str, batch_rows: int, features_told: Features | None = None
) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """(catalogue, quarantine, account) of the files that `config` names.

    kind defaults to ad, status to active, title to the item's id. Of an item's versions the newest stays where
    `newest_by` tells it. The columns of targeting rules and of active dates are read where features are declared
    (`features_told`) or they are mapped; rules and campaigns are kept where any ad has one. Raises UserError where no
    row is left.
    """
    features = feature_schema(config)
    asked = told_by_requests(features_told or {})
    rules, dates = _targeted(config, field, features, asked), _dates(config, field, features, asked)
    of_ads = _OfAds(rules, dates, kinds_of(features_told, "item"))
    clean, bad, versions = [], [], []
    fragments = list_fragments(config, field, REQUIRED, OPTIONAL)
    chunks = (chunk for fragment in fragments for chunk in read_chunks(fragment, config, batch_rows))
    for chunk in progress.told(chunks, None, "rows of the catalogue", size=lambda chunk: chunk.rows_in):
        table, reasons = _judged(chunk.table, features, of_ads)
        is_good = pa.array(reasons.clean)
        clean.append(table.filter(is_good))
        if (version := version_column(chunk.table, config)) is not None:
            versions.append(version.filter(is_good))
        bad.append(quarantine_rows(chunk.table, reasons))
        bad.append(malformed_rows(chunk.malformed))
    if of_ads.dates is not None:
        of_ads.dates.refuse_wrong_unit(field)
    schema = _schema(features, of_ads)
    items = pa.concat_tables(clean) if clean else schema.empty_table()
    items = _without_empty(items, CAMPAIGN, features)
    quarantine = pa.concat_tables(bad) if bad else QUARANTINE_SCHEMA.empty_table()
    rows_in, read = items.num_rows + quarantine.num_rows, items.num_rows
    if config.newest_by is not None and read:
        age_N = np.arange(read) if config.newest_by == FILE_ORDER else ages(versions, config, field)
        items = items.filter(pa.array(newest(items.column("item_id").combine_chunks(), age_N)))
    distinct = items.group_by(items.column_names, use_threads=False).aggregate([])
    kept, repeated = _one_row_an_item(distinct)
    quarantine = pa.concat_tables([quarantine, repeated])
    account = {
        "rows_in": rows_in,
        "kept": kept.num_rows,
        "quarantined": quarantine.num_rows,
        "duplicates": items.num_rows - distinct.num_rows,
    }
    if config.newest_by is not None:
        account["older_versions"] = read - items.num_rows
    if not kept.num_rows:
        first = f"{quarantine['reason'][0]}: {quarantine['row'][0]}" if quarantine.num_rows else "no row at all"
        remedy = remedy_for_several(config.newest_by) if repeated.num_rows else "check the catalogue file"
        remedy = with_encoding(remedy, quarantine["reason"].to_pylist())
        raise UserError("the catalogue has no usable item", field=field, value=first, remedy=remedy)
    kept = kept.cast(pa.schema([schema.field(name) for name in kept.column_names]))
    for name in (CAMPAIGN, TARGETING):
        kept = _without_empty(kept, name, features)
    return kept, quarantine, account


def _without_empty(items: pa.Table, name: str, features: pa.Schema) -> pa.Table:
    """Without the column `name` where no item has it, unless it is a declared feature."""
    is_there = name in items.column_names and name not in features.names
    return items.drop_columns([name]) if is_there and items[name].null_count == items.num_rows else items


def _targeted(config: TableConfig, field: str, features: pa.Schema, told: Features | None) -> Features | None:
    """The features that rules may be over; None where the column of rules is not read."""
    if not told and TARGETING not in {**config.columns, **config.constants}:
        return None
    _refuse_as_feature(TARGETING, field, features)
    return told or {}


def _dates(config: TableConfig, field: str, features: pa.Schema, told: Features | None) -> ActiveDates | None:
    """How active dates are read; None where they are not."""
    if not told and not {*config.columns, *config.constants}.intersection(ACTIVE_DATES):
        return None
    for name in ACTIVE_DATES:
        _refuse_as_feature(name, field, features)
    return ActiveDates(config.timestamp_unit, config.timezone)


def _refuse_as_feature(name: str, field: str, features: pa.Schema) -> None:
    if name in features.names:
        what = "rules" if name == TARGETING else "dates"
        remedy = f"give the feature another name by columns, or leave it out: {what} are read from that column"
        raise UserError(f"is the column of targeting {what}", field=f"{field}.features", value=name, remedy=remedy)


def validate_items(raw: pa.Table, features: pa.Schema) -> tuple[pa.Table, pa.Table]:
    """(clean catalogue rows, quarantine) of one batch whose columns already have the contract's names."""
    table, reasons = _judged(raw, features, _OfAds())
    return _without_empty(table.filter(pa.array(reasons.clean)), CAMPAIGN, features), quarantine_rows(raw, reasons)


def _judged(raw: pa.Table, features: pa.Schema, of_ads: _OfAds) -> tuple[pa.Table, Reasons]:
    """All rows in the catalogue's types, and why some are not to be believed."""
    reasons = Reasons(raw.num_rows)
    columns = {
        name: check_text(whole_column(raw, name), name, ID_LENGTH, reasons) for name in ("item_id", "kind", "status")
    }
    reasons.mark(columns["item_id"].is_null(), "item_id is empty")
    check_word(columns["kind"], "kind", ITEM_KINDS, reasons)
    check_word(columns["status"], "status", tuple(Status), reasons)
    for name in ("title", "category", "brand", "advertiser"):
        columns[name] = _long_text(whole_column(raw, name), name, reasons)
    for name in ("price", "ecpm"):
        columns[name] = check_amount(whole_column(raw, name), name, reasons)
    columns[CAMPAIGN] = _long_text(whole_column(raw, CAMPAIGN), CAMPAIGN, reasons)
    columns |= {feature.name: _feature(raw, feature, of_ads.told, reasons) for feature in features}
    columns["kind"] = pc.fill_null(columns["kind"], "ad")
    columns["status"] = pc.fill_null(columns["status"], Status.ACTIVE.value)
    columns["title"] = pc.coalesce(columns["title"], columns["item_id"])
    if of_ads.targeted is not None:
        columns[TARGETING] = read_column(whole_column(raw, TARGETING), of_ads.targeted, reasons)
    if of_ads.dates is not None:
        columns[TARGETING] = of_ads.dates.fold(raw, columns.get(TARGETING), reasons)
    names = _schema(features, of_ads).names
    return pa.table({name: columns[name] for name in names}), reasons


def _feature(raw: pa.Table, feature: pa.Field, told: Mapping[str, FeatureConfig], reasons: Reasons) -> pa.Array:
    values = whole_column(raw, feature.name)
    if (declared := told.get(feature.name)) is None:
        return cast_feature(values, feature, reasons)
    stored = as_stored(values)
    for where, reason in problems_of(stored, feature.name, declared):
        reasons.mark(where, reason)
    return cast_feature(stored, feature, reasons)


def _schema(features: pa.Schema, of_ads: _OfAds) -> pa.Schema:
    """Catalogue rows: the contract, declared features, campaigns, rules where they are read."""
    behind = [CAMPAIGN] if CAMPAIGN not in features.names else []
    behind += [TARGETING] if of_ads.rules else []
    return pa.schema([*CATALOGUE_SCHEMA, *features, *(pa.field(name, pa.string()) for name in behind)])


def write_catalogue(items: pa.Table, path: Path) -> None:
    """Write the catalogue sorted by item id, so that the same items always give the same file."""
    pq.write_table(items.sort_by("item_id"), path, compression="zstd", row_group_size=_ROW_GROUP)


def _long_text(values: pa.Array, column: str, reasons: Reasons) -> pa.Array:
    """Text that may be empty."""
    limit = TITLE_LENGTH if column == "title" else ID_LENGTH * 2
    text, bad = to_text(values, column)
    reasons.mark(bad, f"{column} {NOT_TEXT}")
    reasons.mark(pc.greater(pc.utf8_length(text), limit), f"{column} is longer than {limit} characters")
    return text


def _one_row_an_item(items: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Items that have one row; all rows of an item with several go to quarantine, for none of them can be believed."""
    ids = items.column("item_id").combine_chunks()
    counts = pc.value_counts(ids)
    repeated_ids = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    repeated = pc.is_in(ids, value_set=repeated_ids).to_numpy(zero_copy_only=False).astype(bool)
    reasons = Reasons(items.num_rows)
    reasons.mark(np.asarray(repeated), SEVERAL_ROWS)
    return items.filter(pa.array(~repeated)), quarantine_rows(items, reasons)
