"""`logs.value: ecpm`: a prepared log's sequences get a column of what each event is worth as a target.

Shards count, one task adds up, shards write: only a few rows an ad cross between tasks, through files. What users paid
(`value`) stays beside it: histories, and what a user is worth, are made of that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.logs.sources.base import SPILL, Source
from adbeam.logs.values.counting import COUNTED, add_up, count_amounts, count_exposures, training_events
from adbeam.logs.values.ecpm_rates import EcpmRates
from adbeam.records import ITEM_KINDS, TARGET_VALUE
from adbeam.workdir import EVENTS, SEQUENCES

FOLDER = "ecpm_rates"
"""In the prepared log: the rates, for targets that come later."""
ANOTHER_VALUE = "set logs.value: price_or_bid"
_SEQUENCE_ROWS = 1024


def check_impressions(source: Source) -> None:
    """Raise UserError where rates cannot be computed from what the source's impressions are."""
    if source.impressions not in ("all", "weighted"):
        held = "holds no impressions" if source.impressions == "none" else "holds sampled or implied impressions only"
        raise UserError(
            f"needs the log's own impressions, and this source {held}",
            field="logs.value",
            value="ecpm",
            remedy=f"{ANOTHER_VALUE}, or name the column that weighs them in logs.files.impression_weight",
        )


def count_shard(staging: Path, weight: str | None, target: str, number: int) -> dict[str, Any]:
    """Leave one shard's counts and amounts beside the spill."""
    sequences = sorted((staging / SEQUENCES).glob("*.parquet"))[number]
    events = training_events(staging / EVENTS / sequences.name, sequences, weight)
    pq.write_table(count_exposures(events), staging / SPILL / f"exposures-{sequences.name}")
    pq.write_table(count_amounts(events, target), staging / SPILL / f"amounts-{sequences.name}")
    return {}


def fit_rates(staging: Path, target: str) -> dict[str, Any]:
    """Rates of all shards' counts; returns how many ads, scenes and impressions they are of."""
    counts = _together(staging / SPILL, "exposures-*.parquet", ["item_id", "scene"], COUNTED)
    amounts = _together(staging / SPILL, "amounts-*.parquet", ["item_id", "column", "bucket"], ("rows", "money"))
    rates = EcpmRates.fit(counts, amounts, target)
    rates.write(staging / FOLDER)
    values = rates.values(counts["item_id"], counts["scene"])
    return {
        "ads": len(rates.ads) - 1,
        "scenes": len(rates.scenes) - 1,
        "impressions": round(pc.sum(counts["impressions"]).as_py()),
        "amounts_left_out": rates.left_out,
        "mean": float(f"{np.average(values, weights=counts['impressions'].to_numpy()):.4g}"),
    }


def write_shard(staging: Path, number: int) -> dict[str, Any]:
    """Add the column to one shard's sequences; organic events, which nobody pays for, are worth 0."""
    path = sorted((staging / SEQUENCES).glob("*.parquet"))[number]
    sequences, rates = pq.read_table(path), EcpmRates.read(staging / FOLDER)
    lists = {name: sequences[name].combine_chunks() for name in ("item_id", "scene", "item_kind")}
    values = rates.values(lists["item_id"].flatten(), lists["scene"].flatten())
    values[lists["item_kind"].flatten().to_numpy() != ITEM_KINDS.index("ad")] = 0
    column = pa.ListArray.from_arrays(lists["item_id"].offsets, pa.array(values))
    unfinished = path.with_suffix(".partial")
    told = [name for name in sequences.column_names if name != TARGET_VALUE]  # a task may run twice
    table = sequences.select(told).append_column(TARGET_VALUE, column)
    pq.write_table(table, unfinished, compression="zstd", row_group_size=_SEQUENCE_ROWS)
    os.replace(unfinished, path)
    return {}


def _together(folder: Path, names: str, keys: list[str], sums: tuple[str, ...]) -> pa.Table:
    return add_up(pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob(names))]), keys, sums)
