"""From a prepared log to the exposures that the reward model learns from: ads shown, and how far the user went.

An exposure is one ad in one request. A conversion implies a click, and both imply that the ad was shown. Each task
turns one shard of users into one Parquet file.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adbeam.foundation.reader import RepresentationReader
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import AD, UserSequence, read_sequences
from adbeam.ray_data.runners import InProcessRunner, Runner
from adbeam.records import ACTIONS
from adbeam.rewards.config import RewardConfig
from adbeam.rewards.features import (
    CATEGORICAL,
    DENSE,
    ItemTable,
    Past,
    pair_features,
    represented_columns,
    told_columns,
)

CLICK, CONVERSION = ACTIONS.index("click"), ACTIONS.index("conversion")
LABELS = ("clicked", "converted")
COLUMNS = (*CATEGORICAL, *DENSE, *LABELS, "weight", "value", "split")


def write_exposures(
    prepared: PreparedLog,
    config: RewardConfig,
    folder: Path,
    runner: Runner | None = None,
    representations: Path | None = None,
) -> int:
    """Write `folder/exposures-*.parquet` with COLUMNS, and those of declared features and of `representations` where
    the model is told any; returns how many exposures there are."""
    folder.mkdir(parents=True, exist_ok=True)
    task = partial(
        _write_shard, str(prepared.folder.resolve()), config.model_dump(), str(folder.resolve()), representations
    )
    shards = len(prepared.sequences())
    answers = (runner or InProcessRunner()).each(shards, task, "write_exposures")
    return sum(answer["exposures"] for answer in answers)


def _write_shard(
    prepared_folder: str, settings: dict[str, Any], folder: str, representations: Path | None, number: int
) -> dict[str, Any]:
    prepared, config = PreparedLog.open(prepared_folder, verify=False), RewardConfig.model_validate(settings)
    reader = None
    if representations is not None and config.representation is not None:
        reader = RepresentationReader.open(representations, config.representation)
    items = ItemTable.of(prepared.catalogue(), config, prepared.told())
    shard = prepared.sequences()[number]
    weight_E = prepared.event_weights(shard.name, config.weight_column)
    parts = [part for part in _user_parts(shard, weight_E, items, config, reader) if part.num_rows]
    if parts:
        table = pa.concat_tables(parts)
        order = np.random.default_rng(number).permutation(table.num_rows)
        pq.write_table(table.take(pa.array(order)), Path(folder) / f"exposures-{number:05d}.parquet")
    return {"exposures": sum(part.num_rows for part in parts)}


def _user_parts(
    shard: Path, weight_E: np.ndarray, items: ItemTable, config: RewardConfig, reader: RepresentationReader | None
) -> Iterator[pa.Table]:
    """Events and sequences of a shard have the same order."""
    first = 0
    for sequence in read_sequences(shard):
        end = first + len(sequence.timestamp_H)
        yield exposures_of(sequence, weight_E[first:end], items, config, reader)
        first = end


def exposures_of(
    sequence: UserSequence,
    weight_H: np.ndarray,
    items: ItemTable,
    config: RewardConfig,
    reader: RepresentationReader | None = None,
) -> pa.Table:
    """One user's exposures: for each request and ad the furthest action, features as of the request's first event."""
    row_H = items.rows(sequence.item_H)
    past = Past.of(sequence, row_H)
    shown_h = np.flatnonzero((sequence.kind_H == AD) & (row_H >= 0))
    by_request: dict[str, list[int]] = {}
    for place in shown_h.tolist():
        by_request.setdefault(str(sequence.request_H[place]), []).append(place)
    began = _request_starts(sequence, by_request)
    parts = [
        _request_part(sequence, np.array(places), began[name], weight_H, row_H, past, items, config, reader)
        for name, places in by_request.items()
    ]
    return pa.concat_tables(parts) if parts else pa.table({name: [] for name in COLUMNS})


def _request_starts(sequence: UserSequence, names: dict[str, list[int]]) -> dict[str, int]:
    ids, first = np.unique(sequence.request_H.astype(str), return_index=True)
    known = dict(zip(ids.tolist(), sequence.timestamp_H[first].tolist(), strict=True))
    return {name: known[name] for name in names}


def _request_part(
    sequence: UserSequence,
    place_e: np.ndarray,
    now_ms: int,
    weight_H: np.ndarray,
    row_H: np.ndarray,
    past: Past,
    items: ItemTable,
    config: RewardConfig,
    reader: RepresentationReader | None,
) -> pa.Table:
    """The exposures of one request, each ad once."""
    row_n, inverse_e = np.unique(row_H[place_e], return_inverse=True)
    action_n = np.zeros(len(row_n), dtype=np.int64)
    np.maximum.at(action_n, inverse_e, sequence.action_H[place_e])
    weight_n, value_n = np.zeros(len(row_n)), np.zeros(len(row_n))
    np.maximum.at(weight_n, inverse_e, weight_H[place_e])
    paid_e = np.where(sequence.action_H[place_e] == CONVERSION, sequence.value_H[place_e], 0.0)
    np.add.at(value_n, inverse_e, paid_e)
    # A conversion implies its exposure, so it was not sampled.
    weight_n = np.where(action_n == CONVERSION, 1.0, weight_n)
    scene = str(sequence.scene_H[place_e[0]])
    told = () if sequence.told_HF is None else sequence.told_HF[place_e[0]].tolist()
    categorical, dense = pair_features(past.before(now_ms), now_ms, scene, sequence.user_id, row_n, items, config, told)
    declared = told_columns(categorical.shape[1] - len(CATEGORICAL))
    names = (*CATEGORICAL, *declared)
    columns: dict[str, Any] = {name: categorical[:, place] for place, name in enumerate(names)}
    columns |= {name: dense[:, place] for place, name in enumerate(DENSE)}
    columns |= {
        "clicked": (action_n >= CLICK).astype(np.float32),
        "converted": (action_n == CONVERSION).astype(np.float32),
    }
    columns |= {"weight": weight_n.astype(np.float32), "value": value_n.astype(np.float32)}
    columns["split"] = np.full(len(row_n), sequence.split_H[place_e[0]], dtype=np.int8)
    represented: tuple[str, ...] = ()
    if reader is not None:
        represented = represented_columns(reader.width)
        told_nR = reader.read(sequence.user_id, now_ms, items.ids[row_n].tolist())
        columns |= {name: told_nR[:, place] for place, name in enumerate(represented)}
    return pa.table({name: columns[name] for name in (*COLUMNS, *declared, *represented)})
