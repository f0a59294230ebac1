"""Rows for training on all prefixes: a user a row, each of his events but the first a target of those before it.

A row holds the newest `short_length` + 1 training events of a user, items without a SID and impressions left out; its
context is that of the last target, and how many of its tokens a target sees stands beside it: those strictly before the
target's request. So what a target may not know, its own basket and all after it, is hidden by the mask alone, which is
why the model must be one whose contexts tell an order only (`model.order_only`).

Shapes: H events of a user, n counted events, P targets, S context length, T SID levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from adbeam.features.sid_table import SidTable
from adbeam.features.tokens import SHORT
from adbeam.logs.requests import AD, UserSequence
from adbeam.records import ACTIONS, SPLITS
from adbeam.training.config import BehaviorWeights
from adbeam.training.data.rows import RowFormat

TRAIN, IMPRESSION = SPLITS.index("train"), ACTIONS.index("impression")


@dataclass(frozen=True)
class PrefixRowBuilder:
    """Makes the rows of users; stands in for RowBuilder."""

    sids: SidTable
    format: RowFormat
    target_action: str
    weights: BehaviorWeights
    seed: int
    scenes: set[str] = field(default_factory=set)
    """Of the requests seen so far."""

    def each(self, sequences: Iterable[UserSequence]) -> Iterator[np.ndarray]:
        """The row of every user, none where nothing of his can be learnt."""
        for sequence in sequences:
            yield self.rows(sequence)

    def rows(self, sequence: UserSequence) -> np.ndarray:
        """One row, or none."""
        code_HT, known_H = self.sids.lookup(sequence.item_H)
        trained_H = sequence.split_H == TRAIN
        self.scenes.update(str(scene) for scene in np.unique(sequence.scene_H[trained_H]))
        counted = np.flatnonzero(trained_H & known_H & (sequence.action_H != IMPRESSION))
        newest = counted[-(self.format.short_length + 1) :]
        before_n = self._before(sequence, newest)
        is_target_n = (sequence.action_H[newest] == ACTIONS.index(self.target_action)) & (before_n > 0)
        row_N = np.zeros(int(is_target_n.any()), dtype=self.format.dtype)
        if not len(row_N):
            return row_N
        row, context = row_N[0], newest[:-1]
        row["code_ST"] = -1
        row["code_ST"][1 : 1 + len(context)] = code_HT[context]
        row["feature_SC"][1 : 1 + len(context), 0] = SHORT
        row["feature_SC"][1 : 1 + len(context), 1] = sequence.action_H[context]
        target = newest[is_target_n]
        place = slice(0, len(target))
        row["target_MT"][place] = code_HT[target]
        row["value_M"][place] = np.nan_to_num(sequence.worth_H[target], nan=0.0)
        row["weight_M"][place] = self._behavior(sequence.kind_H[target])
        row["visible_M"][place] = 1 + before_n[is_target_n]
        ad_H = trained_H & (sequence.kind_H == AD) & (sequence.action_H == ACTIONS.index("conversion"))
        row["user_value"] = np.nan_to_num(sequence.value_H[ad_H]).sum()
        return row_N

    def _before(self, sequence: UserSequence, newest: np.ndarray) -> np.ndarray:
        """int [n]: how many of the events `newest` lie strictly before the request of each."""
        request_H = pd.factorize(sequence.request_H)[0]
        began = pd.Series(sequence.timestamp_H).groupby(request_H).min().to_numpy()
        before_n: np.ndarray = np.searchsorted(sequence.timestamp_H[newest], began[request_H[newest]], side="left")
        return before_n

    def _behavior(self, kind_n: np.ndarray) -> np.ndarray:
        ad = getattr(self.weights, f"ad_{self.target_action}")
        organic = getattr(self.weights, f"organic_{self.target_action}")
        behavior_n: np.ndarray = np.where(kind_n == AD, ad, organic)
        return behavior_n
