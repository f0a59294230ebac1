"""From users' sequences to training rows: contexts of the past, targets with their weights.

Many users are taken together, so that a user with one request costs little more than his events. Shapes: H events of a
user, U users, K requests, n targets, T SID levels, N rows, M targets of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from adbeam.features.contexts import Moment, build_contexts
from adbeam.features.history import History
from adbeam.features.sid_table import SidTable
from adbeam.features.spec import FeatureSpec
from adbeam.features.trends import EncodedTrends
from adbeam.logs.requests import AD, UserSequence
from adbeam.records import ACTIONS
from adbeam.training.config import BehaviorWeights
from adbeam.training.data.later_ads import later_ads
from adbeam.training.data.rows import RowFormat
from adbeam.training.data.targets import JoinedEvents, Targets

CHUNK = 256
"""Requests whose contexts are built together."""
BATCH_EVENTS = 16_384
"""Events of users that are taken together; a longer sequence is a batch of its own."""


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
        return self._rows([sequence], None if user_value is None else np.array([user_value]))[0]

    def each(self, sequences: Iterable[UserSequence]) -> Iterator[np.ndarray]:
        """`rows` of every user, in their order."""
        for batch in _batches(sequences):
            yield from self._rows(batch)

    def _rows(self, sequences: Sequence[UserSequence], user_value_U: np.ndarray | None = None) -> list[np.ndarray]:
        events = JoinedEvents.of(sequences, self.sids)
        targets = Targets.of(events, self.target_action, self.format.targets - self.format.later, self.seed)
        self.scenes.update(targets.scenes)
        row_N = np.zeros(len(targets.user_K), dtype=self.format.dtype)
        place_n = targets.request_n, targets.rank_n
        self._fill_targets(row_N, events, place_n, targets.event_n)
        if self.format.later:
            row_n, rank_n, event_n, head_n = later_ads(events, targets, self.target_action, self.format.later)
            self._fill_targets(row_N, events, (row_n, rank_n), event_n)
            row_N["head_M"][row_n, rank_n] = head_n
        user_value_U = events.ad_values() if user_value_U is None else user_value_U
        row_N["user_value"] = user_value_U[targets.user_K]
        self._fill_contexts(row_N, targets, sequences, _histories(sequences, events))
        edges = np.searchsorted(targets.user_K, np.arange(1, len(sequences)))
        return np.split(row_N, edges)

    def _fill_targets(
        self, row_N: np.ndarray, events: JoinedEvents, place_n: tuple[np.ndarray, np.ndarray], event_n: np.ndarray
    ) -> None:
        row_N["target_MT"][place_n] = events.code_EX[event_n, : self.spec.levels]
        row_N["value_M"][place_n] = np.nan_to_num(events.worth_E[event_n], nan=0.0)
        row_N["weight_M"][place_n] = self._behavior(events.kind_E[event_n])

    def _fill_contexts(
        self, row_N: np.ndarray, targets: Targets, sequences: Sequence[UserSequence], histories: list[History]
    ) -> None:
        users, now_ms = targets.user_K.tolist(), targets.now_ms_K.tolist()
        moments = [
            Moment(moment, scene, sequences[user].user_id, told)
            for moment, scene, user, told in zip(now_ms, targets.scene_K, users, targets.told_K, strict=True)
        ]
        for start in range(0, len(row_N), CHUNK):
            part = slice(start, start + CHUNK)
            pasts = [histories[user] for user in users[part]]
            contexts = build_contexts(pasts, moments[part], self.spec, self.trends)
            row_n = row_N[part]
            row_n["static_F"], row_n["code_ST"] = contexts.static_BF, contexts.code_BST
            row_n["feature_SC"] = contexts.feature_BSC
            if self.format.trending:
                row_n["trend_code_NT"], row_n["trend_feature_NC"] = contexts.trend_code_BNT, contexts.trend_feature_BNC

    def _behavior(self, kind_n: np.ndarray) -> np.ndarray:
        ad = getattr(self.weights, f"ad_{self.target_action}")
        organic = getattr(self.weights, f"organic_{self.target_action}")
        behavior_n: np.ndarray = np.where(kind_n == AD, ad, organic)
        return behavior_n


def _batches(sequences: Iterable[UserSequence]) -> Iterator[list[UserSequence]]:
    held: list[UserSequence] = []
    events = 0
    for sequence in sequences:
        if held and events + len(sequence) > BATCH_EVENTS:
            yield held
            held, events = [], 0
        held.append(sequence)
        events += len(sequence)
    if held:
        yield held


def _histories(sequences: Sequence[UserSequence], events: JoinedEvents) -> list[History]:
    """Each user's events whose item has a SID."""
    histories = []
    for sequence, start in zip(sequences, events.start_U.tolist(), strict=True):
        code_HT, known_H = (column[start : start + len(sequence)] for column in (events.code_EX, events.known_E))
        whole = bool(known_H.all())
        histories.append(History.of(sequence, code_HT if whole else code_HT[known_H], None if whole else known_H))
    return histories


def ad_value(sequence: UserSequence, among_H: np.ndarray) -> float:
    """Money that the user's ad conversions among these events brought."""
    counts = among_H & (sequence.kind_H == AD) & (sequence.action_H == ACTIONS.index("conversion"))
    return float(np.nan_to_num(sequence.value_H[counts]).sum())
