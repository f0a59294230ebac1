"""What came of the impressions of the training split, by ad: counts and money, and rates that few counts cannot move.

Only what followed an impression counts: a click or conversion of an ad that its user was never shown says nothing of
what showing it is worth. Each task reads one shard.

Shapes: E events of a shard, N ads, S scenes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import AD
from adbeam.objectives.ecpm import within_reason
from adbeam.ray_data.runners import InProcessRunner, Runner
from adbeam.records import ACTIONS, SPLITS

IMPRESSION, CLICK = ACTIONS.index("impression"), ACTIONS.index("click")
SPREAD_MIN, SPREAD_MAX = 1.0, 1e6
"""How many impressions (or clicks) the mean of all ads stands for at least and at most beside an ad's own."""


class AdCounts:
    """Of the training split: `table` has item_id, scene, impressions (by weight), clicks, targets, money, squares."""

    def __init__(self, table: pa.Table, lost: int) -> None:
        """`lost` clicks and targets followed no impression."""
        self.table, self.lost = table, lost

    @classmethod
    def of(cls, prepared: PreparedLog, target: str, limit: float, runner: Runner | None = None) -> AdCounts:
        """Count the events of `prepared`; `target` is the action that pays, amounts above `limit` count as none."""
        shards = len(prepared.sequences())
        task = partial(_count_shard, str(prepared.folder.resolve()), target, limit)
        answers = list((runner or InProcessRunner()).each(shards, task, "count_impressions"))
        tables = [pa.table({name: answer[name] for name in COLUMNS}) for answer in answers if len(answer["item_id"])]
        if not tables:
            return cls(pa.table({name: [] for name in COLUMNS}), sum(answer["lost"] for answer in answers))
        summed = (
            pa.concat_tables(tables)
            .group_by(["item_id", "scene"], use_threads=False)
            .aggregate([(name, "sum") for name in SUMS])
        )
        return cls(summed.rename_columns(list(COLUMNS)), sum(answer["lost"] for answer in answers))

    def total(self, name: str) -> float:
        """Sum of a column over ads and scenes."""
        return float(pc.sum(self.table[name]).as_py() or 0.0)

    def by(self, key: str) -> dict[str, dict[str, float]]:
        """{ad or scene: {column: sum}}."""
        grouped = self.table.group_by([key], use_threads=False).aggregate([(name, "sum") for name in SUMS])
        rows = {name: grouped[f"{name}_sum"].to_pylist() for name in SUMS}
        return {held: {name: rows[name][place] for name in SUMS} for place, held in enumerate(grouped[key].to_pylist())}


SUMS = ("impressions", "clicks", "targets", "valued", "paid", "money", "squares")
"""`valued` are the targets with money, `paid` those of them whose money is within reason, `money` what these
brought, `squares` the sum of its squares."""
COLUMNS = ("item_id", "scene", *SUMS)


def money_limit(prepared: PreparedLog, target: str) -> float:
    """The largest amount of a training target that is within reason; infinite where none is beyond."""
    values = []
    for path in prepared.sequences():
        flat = _flat(path, ("split", "action", "value"))
        wanted = (flat["split"] == SPLITS.index("train")) & (flat["action"] == ACTIONS.index(target))
        values.append(flat["value"][wanted & (flat["value"] > 0)].astype(np.float64))
    every = np.sort(np.concatenate([*values, np.zeros(0)]))
    kept = within_reason(every)
    return float(kept[-1]) if 0 < len(kept) < len(every) else np.inf


def smoothed(count_N: np.ndarray, base_N: np.ndarray) -> tuple[np.ndarray, float]:
    """(rates [N], the rate of all): count over base, each drawn to the rate of all by as much as chance explains.

    Empirical Bayes with a gamma prior: its strength is the spread of the ads' rates beyond that of Poisson counts.
    """
    total = max(float(base_N.sum()), 1e-12)
    rate = float(count_N.sum()) / total
    own_N = count_N / np.maximum(base_N, 1e-12)
    spread = float((base_N * (own_N - rate) ** 2).sum()) / total - rate * np.count_nonzero(base_N > 0) / total
    prior = float(np.clip(rate / max(spread, 1e-18), SPREAD_MIN, SPREAD_MAX))
    return (count_N + prior * rate) / (base_N + prior), rate


def _flat(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    table = pq.read_table(path, columns=list(names))
    return {name: pc.list_flatten(table[name].combine_chunks()).to_numpy(zero_copy_only=False) for name in names}


def _count_shard(folder: str, target: str, limit: float, number: int) -> dict[str, Any]:
    prepared = PreparedLog.open(folder, verify=False)
    path = prepared.sequences()[number]
    sequences = pq.read_table(path, columns=["split", "item_id", "item_kind", "scene", "action", "value"])
    length_U = pc.list_value_length(sequences["action"].combine_chunks()).to_numpy()
    flat = {name: pc.list_flatten(sequences[name].combine_chunks()) for name in sequences.column_names}
    user_E = np.repeat(np.arange(len(length_U)), length_U)
    action_E = flat["action"].to_numpy()
    weight_E = prepared.impression_weights(path.name)
    item, scene = flat["item_id"].dictionary_encode(), flat["scene"].dictionary_encode()
    item_E, scene_E = item.indices.to_numpy().astype(np.int64), scene.indices.to_numpy().astype(np.int64)
    pair_E = user_E * max(len(item.dictionary), 1) + item_E
    wanted_E = (flat["split"].to_numpy() == SPLITS.index("train")) & (flat["item_kind"].to_numpy() == AD)
    shown_E = wanted_E & (action_E == IMPRESSION)
    follows_E = wanted_E & (action_E >= CLICK)
    known_E = np.isin(pair_E, np.unique(pair_E[shown_E]))
    lost = int((follows_E & ~known_E).sum())
    clicked_E, hit_E = (follows_E & known_E & (action_E == code) for code in (CLICK, ACTIONS.index(target)))
    value_E = flat["value"].to_numpy().astype(np.float64)
    valued_E = hit_E & (value_E > 0)
    value_E = np.where(valued_E & (value_E <= limit), value_E, 0.0)
    cell_E = item_E * max(len(scene.dictionary), 1) + scene_E
    cell_C, inverse_E = np.unique(cell_E, return_inverse=True)
    sums = {
        "impressions": np.where(shown_E, weight_E, 0.0), "clicks": clicked_E, "targets": hit_E, "valued": valued_E,
        "paid": value_E > 0, "money": value_E, "squares": value_E**2,
    }  # fmt: skip
    columns = {name: np.bincount(inverse_E, weights=part, minlength=len(cell_C)) for name, part in sums.items()}
    used_C = np.flatnonzero(columns["impressions"] > 0)
    items = item.dictionary.take(pa.array(cell_C[used_C] // max(len(scene.dictionary), 1)))
    scenes = scene.dictionary.take(pa.array(cell_C[used_C] % max(len(scene.dictionary), 1)))
    found = {name: column[used_C].tolist() for name, column in columns.items()}
    return {"item_id": items.to_pylist(), "scene": scenes.to_pylist(), **found, "lost": lost}
