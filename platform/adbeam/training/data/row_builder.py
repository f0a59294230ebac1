"""From one user's sequence to training rows: contexts of the past, targets with their weights.

Shapes: H events, T SID levels, N rows, M targets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from adbeam.features.contexts import Moment, build_contexts
from adbeam.features.history import History
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.features.trends import EncodedTrends
from adbeam.logs.requests import AD, Request, UserSequence, requests_in
from adbeam.records import ACTIONS, SPLITS
from adbeam.training.config import BehaviorWeights
from adbeam.training.data.rows import RowFormat

CHUNK = 64
"""Requests of a user whose contexts are built together."""


@dataclass(frozen=True)
class RowBuilder:
    """Makes the rows of users."""

    sids: SidTable
    spec: FeatureSpec
    format: RowFormat
    target_action: str
    weights: BehaviorWeights
    seed: int
    trends: EncodedTrends | None = None
    """What was trending, where the model is told."""
    scenes: set[str] = field(default_factory=set)
    """Of the requests seen so far."""

    def rows(self, sequence: UserSequence, user_value: float | None = None) -> np.ndarray:
        """One row a request of the training split that has a target with a SID. `user_value` is what the user is worth;
        by default the money of the training split's ad conversions."""
        code_HT, known_H = self.sids.lookup(sequence.item_H)
        history = History.of(sequence, code_HT[known_H], known_H)
        if user_value is None:
            user_value = ad_value(sequence, sequence.split_H == SPLITS.index("train"))
        requests = requests_in(sequence, "train", self.target_action)
        self.scenes.update(request.scene for request in requests)
        chosen = [(request, self._choose(request, known_H)) for request in requests]
        kept = [(request, targets) for request, targets in chosen if len(targets)]
        parts = [self._contexts(kept[at : at + CHUNK], history) for at in range(0, len(kept), CHUNK)]
        row_N = np.concatenate(parts) if parts else np.zeros(0, dtype=self.format.dtype)
        for row, (request, targets) in zip(row_N, kept, strict=True):
            row["target_MT"][: len(targets)] = code_HT[targets]
            row["value_M"][: len(targets)] = _value(request.sequence, targets)
            row["weight_M"][: len(targets)] = self._behavior(request.sequence.kind_H[targets])
        row_N["user_value"] = user_value
        return row_N

    def _contexts(self, kept: list[tuple[Request, np.ndarray]], history: History) -> np.ndarray:
        """Rows with the contexts of some requests of one user, the rest zero."""
        requests = [request for request, _ in kept]
        pasts = [history.before(request.now_ms) for request in requests]
        moments = [Moment(request.now_ms, request.scene, request.sequence.user_id) for request in requests]
        contexts = build_contexts(pasts, moments, self.spec, self.trends)
        row_N = np.zeros(len(kept), dtype=self.format.dtype)
        row_N["static_F"], row_N["code_ST"] = contexts.static_BF, contexts.code_BST
        row_N["feature_SC"] = contexts.feature_BSC
        if self.format.trending:
            row_N["trend_code_NT"], row_N["trend_feature_NC"] = contexts.trend_code_BNT, contexts.trend_feature_BNC
        return row_N

    def _choose(self, request: Request, known_H: np.ndarray) -> np.ndarray:
        """Up to M target positions, each item once: ads first, otherwise by a draw that the seed fixes."""
        known = request.target_positions[known_H[request.target_positions]]
        first: dict[str, int] = {}
        for place in known.tolist():
            first.setdefault(request.sequence.item_H[place], place)
        places = np.fromiter(first.values(), dtype=np.int64, count=len(first))
        if len(places) <= self.format.targets:
            return places
        draw = np.random.default_rng((self.seed, request.end, len(places))).random(len(places))
        organic = request.sequence.kind_H[places] != AD
        return places[np.lexsort((draw, organic))[: self.format.targets]]

    def _behavior(self, kind_M: np.ndarray) -> np.ndarray:
        ad = getattr(self.weights, f"ad_{self.target_action}")
        organic = getattr(self.weights, f"organic_{self.target_action}")
        behavior_M: np.ndarray = np.where(kind_M == AD, ad, organic)
        return behavior_M


def ad_value(sequence: UserSequence, among_H: np.ndarray) -> float:
    """Money that the user's ad conversions among these events brought."""
    counts = among_H & (sequence.kind_H == AD) & (sequence.action_H == ACTIONS.index("conversion"))
    return float(np.nan_to_num(sequence.value_H[counts]).sum())


def _value(sequence: UserSequence, targets: np.ndarray) -> np.ndarray:
    value_M: np.ndarray = np.nan_to_num(sequence.worth_H[targets], nan=0.0)
    return value_M
