"""From declared features to codes: shards count, one task fits, shards write a column of codes into their sequences.

What each request told stands with every event of it, so that whoever cuts a request out of a sequence has it at hand.

Shapes: E events of a shard, K requests, F columns of codes, n different values.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.declared.encoder import MISSING, UNKNOWN, FeatureEncoder, FittedFeature
from adbeam.declared.fit import fit_numbers, fit_words, summary
from adbeam.logs.told.columns import ITEM, WORD_END, column_of, kinds_of, told
from adbeam.logs.told.encoding import encode_column
from adbeam.logs.told.items import count_items, fit_items
from adbeam.logs.told.profiles import known_at
from adbeam.logs.told.requests import ShardRequests
from adbeam.ray_data.runners import Runner, answered, succeeded
from adbeam.records import TOLD
from adbeam.targeting.features import FeatureConfig, Features, told_by_requests
from adbeam.workdir import SEQUENCES

_SEQUENCE_ROWS = 1024
_MET = "met-items"
TRAINED = "in training"


def fit_told(staging: Path, spill: Path, catalogue: Path, features: Features, runner: Runner) -> str:
    """Fit the features of a staged log and its catalogue, and write the codes of requests into its sequences; returns
    what came of it, in words."""
    parts = len(list((staging / SEQUENCES).glob("*.parquet")))
    for counts in runner.each(
        parts, partial(answered, partial(count_shard, staging, spill, features)), "count_features"
    ):
        succeeded(counts)
    sizes = succeeded(runner.once(partial(answered, partial(fit_features, staging, spill, catalogue, features))))
    of_items = ", ".join(f"{name} ({sizes.pop(name):,} codes)" for name in told(features, ITEM))
    of_items = of_items and f"the model is told of items: {of_items}"
    if not sizes:
        return of_items
    requests, shares = 0, Counter[str]()
    for counts in runner.each(parts, partial(answered, partial(write_shard, staging, features)), "write_features"):
        requests += succeeded(counts)["requests"]
        shares.update(counts["told"])
    _with_shares(staging, shares)
    told_of = (
        f"{name} ({size:,} codes; missing {shares[f'{name} missing']:,}, unknown {shares[f'{name} unknown']:,})"
        for name, size in sizes.items()
    )
    of_requests = f"the model is told of {requests:,} requests: {', '.join(told_of)}"
    return f"{of_requests}\n{of_items}" if of_items else of_requests


def count_shard(staging: Path, spill: Path, features: Features, number: int) -> dict[str, Any]:
    """Leave beside the spill how many training requests of one shard brought each value."""
    if told(features, ITEM):
        shard = sorted((staging / SEQUENCES).glob("*.parquet"))[number]
        pq.write_table(count_items(shard), spill / f"{_MET}-{shard.name}")
    if not told_by_requests(told(features)):
        return {}
    name, requests, values_K = _shard(staging, features, number)
    trained = pa.array(requests.in_training_K)
    for place, (feature, config) in enumerate(told_by_requests(told(features)).items()):
        values = values_K[feature].filter(trained).drop_null()
        pq.write_table(_counted(values, config), spill / f"told-{place:02d}-{name}")
    return {}


def fit_features(staging: Path, spill: Path, catalogue: Path, features: Features) -> dict[str, Any]:
    """Fit all features and write them; returns how many codes each has."""
    fitted = []
    for place, (name, config) in enumerate(told_by_requests(told(features)).items()):
        paths = sorted(spill.glob(f"told-{place:02d}-*.parquet"))
        counts = pa.concat_tables([pq.read_table(path) for path in paths])
        fitted.append(_fitted(name, config, counts))
    met = [pq.read_table(path) for path in sorted(spill.glob(f"{_MET}-*.parquet"))]
    encoder = FeatureEncoder(tuple(fitted), fit_items(catalogue, features, pa.concat_tables(met)) if met else ())
    encoder.write(staging)
    return {feature.name: feature.size for feature in (*encoder.features, *encoder.items)}


def write_shard(staging: Path, features: Features, number: int) -> dict[str, Any]:
    """Add the codes to one shard's sequences; returns how many requests lack each feature, or bring unknown values."""
    name, requests, values_K = _shard(staging, features, number)
    encoder = FeatureEncoder.read(staging)
    assert encoder is not None
    parts = [encode_column(one, values_K[one.name]) for one in encoder.features]
    code_EF = np.concatenate(parts, axis=1)[requests.request_E]
    path = staging / SEQUENCES / name
    table = pq.read_table(path)
    table = table.select([column for column in table.column_names if column != TOLD])  # a task may run twice
    offsets = table["split"].combine_chunks().offsets.to_numpy() * encoder.columns
    column = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(code_EF.ravel()))
    unfinished = path.with_suffix(".partial")
    table = table.append_column(TOLD, column)
    pq.write_table(table, unfinished, compression="zstd", row_group_size=_SEQUENCE_ROWS)
    os.replace(unfinished, path)
    shares = Counter({TRAINED: int(requests.in_training_K.sum())})
    for one, code_KF in zip(encoder.features, parts, strict=True):
        for what, is_so_K in (("missing", code_KF[:, 0] == MISSING), ("unknown", (code_KF == UNKNOWN).any(axis=1))):
            shares[f"{one.name} {what}"] = int(is_so_K.sum())
            shares[f"{one.name} {what} {TRAINED}"] = int((is_so_K & requests.in_training_K).sum())
    return {"requests": len(requests.first_K), "told": shares}


def _with_shares(staging: Path, counts: Mapping[str, int]) -> None:
    """Write the features again, with how often training requests lacked each: drift of requests is held against it."""
    encoder = FeatureEncoder.read(staging)
    assert encoder is not None
    requests = max(1, counts[TRAINED])
    shares = [
        {
            f"{what}_share": round(counts[f"{one.name} {what} {TRAINED}"] / requests, 6)
            for what in ("missing", "unknown")
        }
        for one in encoder.features
    ]
    counted = [replace(one, **share) for one, share in zip(encoder.features, shares, strict=True)]  # type: ignore[arg-type]
    replace(encoder, features=tuple(counted)).write(staging)


def _shard(staging: Path, features: Features, number: int) -> tuple[str, ShardRequests, dict[str, pa.Array]]:
    """(file name, requests, {feature: its value for each request}) of one shard."""
    name = sorted((staging / SEQUENCES).glob("*.parquet"))[number].name
    requests = ShardRequests.read(staging, name, list(kinds_of(features, "request")))
    of_source = {"request": requests.columns}
    if columns := list(kinds_of(features, "user")):
        of_source["user"] = known_at(staging, requests.user_K, requests.now_ms_K, columns)
    asked = told_by_requests(told(features))
    values = {one: of_source[config.source][column_of(one, config)] for one, config in asked.items()}
    return name, requests, values


def _counted(values: pa.Array, config: FeatureConfig) -> pa.Table:
    """(value, count) of the values of training requests."""
    if config.kind == "number":
        value_n, count_n = summary(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
        return pa.table({"value": pa.array(value_n, pa.float64()), "count": pa.array(count_n, pa.float64())})
    if config.kind == "list":
        values = pa.array(
            [word for text in values.to_pylist() for word in sorted(set(text.split(WORD_END)))], pa.string()
        )
    counts = pc.value_counts(values.cast(pa.string()))
    columns = {"value": counts.field("values"), "count": counts.field("counts").cast(pa.float64())}
    return pa.table(columns)


def _fitted(name: str, config: FeatureConfig, counts: pa.Table) -> FittedFeature:
    if config.kind == "number":
        return fit_numbers(name, config, counts["value"].to_numpy(), counts["count"].to_numpy())
    words: Counter[str] = Counter()
    for value, count in zip(counts["value"].to_pylist(), counts["count"].to_pylist(), strict=True):
        words[value] += int(count)
    return fit_words(name, config, words.items())
