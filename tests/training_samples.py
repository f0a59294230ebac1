"""A prepared log and its semantic IDs, made from the sample log without running the steps before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from tests.samples import CATEGORIES, TEST_FROM_MS, VALIDATION_FROM_MS, sample_catalogue, sample_events

from adbeam import artifacts
from adbeam.config import Config
from adbeam.records import ACTIONS, CATALOGUE_SCHEMA, ITEM_KINDS, SEQUENCE_SCHEMA

CODEBOOKS = (8, 16, 16)
MODEL = {
    "width": 32,
    "layers": 3,
    "lazy_layers": 2,
    "heads": 4,
    "context_kv_groups": 1,
    "codebooks": CODEBOOKS,
    "ecpm_buckets": 8,
    "short_length": 12,
    "long_length": 6,
    "item_buckets": 256,
    "prefix_buckets": 64,
    "user_buckets": 16,
    "dropout": 0.0,
}


def training_config(work_dir: Path, training: dict[str, Any] | None = None, **sections: Any) -> Config:
    """A small configuration in `work_dir`; training runs in this process unless `training` says otherwise."""
    model = {**MODEL, **sections.pop("model", {})}
    settings = {"batch_requests": 16, "lanes": 4, "workers": 0, "warmup_steps": 5, "shuffle_steps": 8}
    values = {"work_dir": work_dir, "model": model, "training": {**settings, **(training or {})}, **sections}
    return Config.parse({**values, "decoding": {"widths": (4, 8, 8)}})


def write_training_sample(work_dir: Path, users: int = 24, items: int = 60, visits: int = 12, shards: int = 2) -> None:
    """Write `prepared/` and `tokens/` as the steps before training publish them."""
    catalogue = sample_catalogue(items)
    rows = [_sequence(part) for part in _by_user(sample_events(catalogue, users, visits))]
    with artifacts.publish(work_dir / "prepared", {}) as staging:
        (staging / "sequences").mkdir()
        for shard in range(shards):
            table = pa.Table.from_pylist(rows[shard::shards], schema=SEQUENCE_SCHEMA)
            pq.write_table(table, staging / "sequences" / f"part-{shard:05d}.parquet")
        pq.write_table(catalogue.cast(CATALOGUE_SCHEMA), staging / "catalogue.parquet")
    with artifacts.publish(work_dir / "tokens", {}) as staging:
        pq.write_table(sample_sids(catalogue), staging / "sids.parquet")
        save_file({"level_0": torch.zeros(CODEBOOKS[0], 4)}, staging / "codebooks.safetensors")


def sample_sids(catalogue: pa.Table) -> pa.Table:
    """Category, then running numbers: a SID that says something about the item."""
    sids = [[n % len(CATEGORIES), n // len(CATEGORIES) % CODEBOOKS[1], n % 3] for n in range(len(catalogue))]
    columns = {"item_id": catalogue["item_id"], "sid": pa.array(sids, pa.list_(pa.int32())), "kind": catalogue["kind"]}
    return pa.table(columns)


def _by_user(events: pa.Table) -> list[list[dict[str, Any]]]:
    users: dict[str, list[dict[str, Any]]] = {}
    for row in events.to_pylist():
        users.setdefault(row["user_id"], []).append(row)
    return list(users.values())


def _sequence(events: list[dict[str, Any]]) -> dict[str, Any]:
    moments = np.array([event["timestamp"] for event in events])
    split = (moments >= VALIDATION_FROM_MS).astype(int) + (moments >= TEST_FROM_MS)
    return {
        "user_id": events[0]["user_id"],
        "split": split.tolist(),
        "request_id": [event["request_id"] for event in events],
        "timestamp": moments.tolist(),
        "item_id": [event["item_id"] for event in events],
        "item_kind": [ITEM_KINDS.index(event["item_kind"]) for event in events],
        "scene": [event["scene"] for event in events],
        "action": [ACTIONS.index(event["action"]) for event in events],
        "value": [event["price"] or 0.0 for event in events],
    }
