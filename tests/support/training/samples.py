"""A prepared log and its semantic IDs, made from the sample log without running the steps before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from tests.support.samples import CATEGORIES, write_sample_prepared

from adbeam import artifacts
from adbeam.config import Config
from adbeam.workdir import SIDS, WorkDir

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
    settings = {
        "batch_requests": 16,
        "lanes": 4,
        "workers": 0,
        "warmup_steps": 5,
        "shuffle_steps": 8,
        "learning_rate": 0.008,
    }
    values = {"work_dir": work_dir, "model": model, "training": {**settings, **(training or {})}, **sections}
    return Config.parse({**values, "decoding": {"widths": (4, 8, 8)}})


def write_training_sample(work_dir: Path, users: int = 24, items: int = 60, visits: int = 12) -> None:
    """Write `prepared/` and `tokens/` as the steps before training publish them."""
    prepared = write_sample_prepared(work_dir, users=users, items=items, visits=visits)
    with artifacts.publish(WorkDir(work_dir).tokens, {}) as staging:
        pq.write_table(sample_sids(prepared.catalogue()), staging / SIDS)
        save_file({"level_0": torch.zeros(CODEBOOKS[0], 4)}, staging / "codebooks.safetensors")


def sample_sids(catalogue: pa.Table) -> pa.Table:
    """Category, then running numbers: a SID that says something about the item."""
    numbers = [int(item.removeprefix("item")) for item in catalogue["item_id"].to_pylist()]
    sids = [[n % len(CATEGORIES), n // len(CATEGORIES) % CODEBOOKS[1], n % 3] for n in numbers]
    columns = {"item_id": catalogue["item_id"], "sid": pa.array(sids, pa.list_(pa.int32())), "kind": catalogue["kind"]}
    return pa.table(columns)
