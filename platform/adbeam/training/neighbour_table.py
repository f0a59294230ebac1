"""The table of `model.neighbour_prior`: counted once a run from the training events, part of the model from then on.

Shapes: E events, N items of the catalogue, I distinct SIDs, K neighbours of one, T SID levels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from scipy import sparse

from adbeam.evaluation.baselines.events import TrainingEvents
from adbeam.features.sid_table import SidTable
from adbeam.logs.prepared import PreparedLog
from adbeam.model.config import NeighbourPriorConfig
from adbeam.model.priors.neighbours import NeighbourPrior, sid_key
from adbeam.tokens.cooccurrence.directed import DirectedCounts, NeighbourRows, PairWeights, TextSimilarity
from adbeam.tokens.cooccurrence.directed_job import neighbour_table
from adbeam.training.data.build_rows import TrainSettings
from adbeam.workdir import WorkDir

FILE = "neighbours.safetensors"
COUNTED = "click"
"""The weakest action that counts: training rows hold the same events, so that their pairs can be taken out again."""


def write_neighbours(settings: TrainSettings, folder: Path) -> Path | None:
    """The table's file in the folder of a run, written where it is not there; None for a model without neighbours."""
    config = settings.model.neighbour_prior
    if config is None:
        return None
    path = folder / FILE
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        save_file(_table(settings, config), unfinished)
        unfinished.replace(path)
    return path


def fill_neighbours(model: torch.nn.Module, path: Path | None) -> None:
    """Hand a table to the model's prior."""
    if path is not None:
        table = load_file(path)
        for module in model.modules():
            if isinstance(module, NeighbourPrior):
                module.fill(table)


def _table(settings: TrainSettings, config: NeighbourPriorConfig) -> dict[str, np.ndarray]:
    work_dir, codebooks = WorkDir.of(settings.work_dir), settings.model.codebooks
    log = PreparedLog.open(work_dir.prepared, verify=False)
    events, catalogue = TrainingEvents.read(log, COUNTED), log.catalogue()
    code_NT, known_N = SidTable.read(work_dir.sids, len(codebooks)).lookup(events.item_ids)
    key_N = np.where(known_N, sid_key(code_NT.astype(np.int64), codebooks), -1)
    key_I, first_I, place_N = np.unique(key_N, return_index=True, return_inverse=True)
    unknown = int(key_I[0] < 0)  # items without a SID stand first, as one
    key_I, first_I, place_N = key_I[unknown:], first_I[unknown:], place_N - unknown
    ad_N = pc.equal(catalogue.column("kind"), "ad").to_numpy()
    answers_I = np.zeros(len(key_I), dtype=bool)
    answers_I[place_N[known_N & ad_N]] = True
    kept_E = known_N[events.item_E]
    counts = DirectedCounts(
        events.user_E[kept_E], place_N[events.item_E[kept_E]], len(key_I), PairWeights.of(config)
    )  # fmt: skip
    text = TextSimilarity(catalogue.take(first_I), config) if config.text_fields and config.text_weight else None
    found_II = neighbour_table(NeighbourRows(counts, text, config.neighbours, answers_I), config.items_per_range)
    return {"key_I": key_I, **padded(found_II, code_NT[first_I], counts.events_N, config)}


def padded(
    found_II: sparse.csr_matrix, code_IT: np.ndarray, events_I: np.ndarray, config: NeighbourPriorConfig
) -> dict[str, np.ndarray]:
    """The neighbours of each item in K columns, and what a pair of events of weight 1 adds to each score."""
    items, K = len(code_IT), config.neighbours
    row = np.repeat(np.arange(items), np.diff(found_II.indptr))
    column = np.arange(len(row)) - found_II.indptr[row]
    code_IKT = np.full((items, K, code_IT.shape[1]), -1, np.int32)
    code_IKT[row, column] = code_IT[found_II.indices]
    score_IK, unit_IK = np.zeros((items, K), np.float32), np.zeros((items, K), np.float32)
    score_IK[row, column] = found_II.data
    damped_I = np.maximum(events_I, 1).astype(np.float64)
    unit_IK[row, column] = (
        damped_I[row] ** -config.source_damping * damped_I[found_II.indices] ** -config.target_damping
    )
    return {"code_IKT": code_IKT, "score_IK": score_IK, "unit_IK": unit_IK}
