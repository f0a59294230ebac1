"""What the rates of ads are made of: impressions, clicks, conversions and money of one shard's training events.

A shard answers with a few rows an ad, however long the log is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.records import ItemKind

COUNTED = ("impressions", "clicks", "conversions")
STEPS = 4
"""Buckets of an ad's amounts to one factor e: a slip into cents or micros never shares one with what is right."""
NOTHING = -(10**6)
"""Bucket of an amount of 0."""
_COLUMNS = ("user_id", "request_id", "item_id", "item_kind", "scene", "action", "bid", "price")


def training_events(events: Path, sequences: Path, weight: str | None) -> pa.Table:
    """The ads' events of the training split of one shard, with a column `weight`: how many events each stands for.

    Raises UserError where a weight of the column that `weight` names is no number from 1 on.
    """
    table = pq.read_table(events, columns=[*_COLUMNS, *([weight] if weight else [])])
    split = pc.list_flatten(pq.read_table(sequences, columns=["split"])["split"])  # of the events, in their order
    table = table.filter(pc.and_(pc.equal(split, 0), pc.equal(table["item_kind"], ItemKind.AD.value)))
    weights = pc.fill_null(table[weight], 1.0) if weight else pa.array(np.ones(len(table)))
    if weight:
        check_weights(weights, weight)
    return table.select(_COLUMNS).append_column("weight", weights).combine_chunks()


def check_weights(weights: pa.Array, column: str) -> None:
    """Raise UserError naming the first weight of the column that is no number from 1 on."""
    bad = pc.invert(pc.and_(pc.greater_equal(weights, 1.0), pc.is_finite(weights)))
    if pc.any(bad).as_py():
        raise UserError(
            f"the column {column!r} holds {weights.filter(bad)[0].as_py()}",
            field="logs.files.impression_weight",
            value=column,
            remedy="a weight is 1 / (probability that the impression was logged), so 1 or more",
        )


def count_exposures(events: pa.Table) -> pa.Table:
    """(item_id, scene, impressions, clicks, conversions) of ads' events, each counted by its weight.

    A conversion implies a click, and both an impression, where the same request says nothing of them. All that an ad
    does in a request counts for the scene of its first event there.
    """
    action, weight = events["action"], events["weight"]
    columns = {name: events[name] for name in ("user_id", "request_id", "item_id", "scene", "weight")}
    for name, actions in (("shown", ("impression",)), ("clicked", ("click",)), ("converted", ("conversion",)),
                          ("acted", ("click", "deep", "conversion"))):  # fmt: skip
        columns[name] = pc.if_else(pc.is_in(action, value_set=pa.array(actions)), weight, 0.0)
    shown_once = pa.table(columns).group_by(["user_id", "request_id", "item_id"], use_threads=False)
    sums = [("shown", "sum"), ("clicked", "sum"), ("converted", "sum")]
    exposures = shown_once.aggregate([("scene", "first"), ("weight", "max"), ("acted", "max"), *sums])
    counts = (
        _else(exposures["shown_sum"], exposures["weight_max"]),
        _else(exposures["clicked_sum"], exposures["acted_max"]),
        exposures["converted_sum"],
    )
    counted = pa.table([exposures["item_id"], exposures["scene_first"], *counts], names=["item_id", "scene", *COUNTED])
    return add_up(counted, ["item_id", "scene"], COUNTED)


def count_amounts(events: pa.Table, target: str) -> pa.Table:
    """(item_id, column, bucket, rows, money) of the bids of ads' events and of the prices of events of `target`.

    A bucket holds amounts within a factor of e^(1 / STEPS).
    """
    priced = events.filter(pc.equal(events["action"], target))
    parts = [_amounts(events, "bid"), _amounts(priced, "price")]
    return add_up(pa.concat_tables(parts), ["item_id", "column", "bucket"], ("rows", "money"))


def add_up(table: pa.Table, keys: list[str], sums: tuple[str, ...]) -> pa.Table:
    """Sums by keys, in the order of the keys, so that the same rows give the same bytes."""
    grouped = table.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in sums])
    named = grouped.rename_columns([name.removesuffix("_sum") for name in grouped.column_names])
    return named.select([*keys, *sums]).sort_by([(key, "ascending") for key in keys])


def _amounts(events: pa.Table, column: str) -> pa.Table:
    events = events.filter(events[column].is_valid())
    money = events[column].to_numpy()
    bucket = np.floor(STEPS * np.log(money, out=np.zeros(len(money)), where=money > 0)).astype(np.int64)
    columns = {
        "item_id": events["item_id"],
        "column": pa.array([column] * len(events), pa.string()),
        "bucket": np.where(money > 0, bucket, NOTHING),
        "rows": np.ones(len(events), np.int64),
        "money": money,
    }
    return pa.table(columns)


def _else(counted: pa.ChunkedArray, implied: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.greater(counted, 0), counted, implied)
