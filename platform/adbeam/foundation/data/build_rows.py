"""Rows of a prepared log as Parquet: one task a shard of users, training rows and judged rows apart."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.errors import UserError
from adbeam.foundation.config import FoundationConfig
from adbeam.foundation.data.items import Items
from adbeam.foundation.data.rows import RowMaker, to_table
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences
from adbeam.ray_data.runners import InProcessRunner, Runner
from adbeam.records import SPLITS
from adbeam.training.data.order import RowFiles

TRAIN = SPLITS.index("train")
GROUP_ROWS = 4096
"""Rows of one row group: what a step reads at least of a shard."""


def scenes_of(prepared: PreparedLog) -> tuple[str, ...]:
    """The scenes of the training split by name."""
    seen: set[str] = set()
    for shard in prepared.sequences():
        for batch in pq.ParquetFile(shard).iter_batches(columns=["split", "scene"]):
            split, scene = (pc.list_flatten(batch[name]) for name in ("split", "scene"))
            seen.update(pc.unique(scene.filter(pc.equal(split, TRAIN))).to_pylist())
    return tuple(sorted(seen))


def write_rows(
    prepared: PreparedLog, config: FoundationConfig, scenes: tuple[str, ...], folder: Path, runner: Runner | None = None
) -> list[dict[str, Any]]:
    """Write `folder/SPLIT/rows-*.parquet`; returns what each shard holds: {"train": rows, ..., "items": [rows]}.

    Raises UserError where the training split has no row.
    """
    for split in SPLITS:
        (folder / split).mkdir(parents=True, exist_ok=True)
    task = partial(_write_shard, str(prepared.folder.resolve()), config.model_dump(), scenes, str(folder.resolve()))
    shards = len(prepared.sequences())
    answers = sorted((runner or InProcessRunner()).each(shards, task, "foundation_rows"), key=lambda one: one["number"])
    if not sum(answer["train"] for answer in answers):
        raise UserError(
            "the training split holds no event of an item of the catalogue",
            field="logs",
            remedy="check logs.split and the catalogue, and prepare again",
        )
    return answers


def _write_shard(
    prepared_folder: str, settings: dict[str, Any], scenes: tuple[str, ...], folder: str, number: int
) -> dict[str, Any]:
    prepared, config = PreparedLog.open(prepared_folder, verify=False), FoundationConfig.model_validate(settings)
    maker = RowMaker(Items.of(prepared.catalogue(), config), scenes, config)
    shard = prepared.sequences()[number]
    weight_E = prepared.event_weights(shard.name, config.weight_column)
    rng, first, parts = np.random.default_rng(number), 0, []
    for sequence in read_sequences(shard):  # events and sequences of a shard have the same order
        end = first + len(sequence)
        parts.append(maker.user_rows(sequence, weight_E[first:end], rng))
        first = end
    row_R = np.concatenate(parts) if parts else maker.no_rows()
    row_R = row_R[rng.permutation(len(row_R))]
    answer: dict[str, Any] = {"number": number}
    for place, split in enumerate(SPLITS):
        chosen = row_R[row_R["split"][:, 0] == place]
        answer[split] = len(chosen)
        if len(chosen):
            pq.write_table(to_table(chosen), Path(folder) / split / _name(number), row_group_size=GROUP_ROWS)
    answer["items"] = np.unique(row_R["row"][row_R["split"] == TRAIN]).tolist()
    return answer


def training_files(folder: Path, shards: list[dict[str, Any]]) -> RowFiles:
    """The training rows that `write_rows` left in `folder`, as one numbered list."""
    filled = [shard for shard in shards if shard["train"]]
    names, counts = tuple(_name(shard["number"]) for shard in filled), tuple(shard["train"] for shard in filled)
    return RowFiles(folder / SPLITS[TRAIN], names, counts)


def _name(number: int) -> str:
    return f"rows-{number:05d}.parquet"
