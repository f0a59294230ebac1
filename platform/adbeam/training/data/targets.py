"""The targets of many users' requests at once, from their events laid end to end.

Shapes: U users, E events of all of them, K requests with a target that has a SID, n targets, T SID levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import pandas as pd

from adbeam.declared.encoder import Codes
from adbeam.features.sid_table import SidTable
from adbeam.logs.requests import AD, UserSequence
from adbeam.records import ACTIONS, SPLITS

TRAIN = SPLITS.index("train")


@dataclass(frozen=True)
class JoinedEvents:
    """The events of several users, user by user; requests and items as numbers that are the same for the same id."""

    start_U: np.ndarray
    owner_E: np.ndarray
    in_training_E: np.ndarray
    request_E: np.ndarray
    timestamp_E: np.ndarray
    item_E: np.ndarray
    kind_E: np.ndarray
    action_E: np.ndarray
    value_E: np.ndarray
    worth_E: np.ndarray
    """What each event is worth as a target: its value, unless `logs.value` says otherwise."""
    scene_E: np.ndarray
    told_EF: np.ndarray | None
    """Codes of the declared features of each event's request, where the model is told any."""
    code_EX: np.ndarray
    """SID codes of each event's item, and behind them its declared features where the model is told any."""
    known_E: np.ndarray
    """Whether the item has a SID."""

    @classmethod
    def of(cls, sequences: Sequence[UserSequence], sids: SidTable) -> Self:
        """Of one or more users, with their items' codes."""
        count_U = np.array([len(sequence) for sequence in sequences])
        owner_E = np.arange(len(sequences)).repeat(count_U)
        item_E, items = pd.factorize(np.concatenate([sequence.item_H for sequence in sequences]))
        request_E, requests = pd.factorize(np.concatenate([sequence.request_H for sequence in sequences]))
        code_NX, known_N = sids.describe(items)
        return cls(
            start_U=np.cumsum(count_U) - count_U,
            owner_E=owner_E,
            in_training_E=np.concatenate([sequence.split_H for sequence in sequences]) == TRAIN,
            request_E=pd.factorize(owner_E * len(requests) + request_E)[0],
            timestamp_E=np.concatenate([sequence.timestamp_H for sequence in sequences]),
            item_E=item_E,
            kind_E=np.concatenate([sequence.kind_H for sequence in sequences]),
            action_E=np.concatenate([sequence.action_H for sequence in sequences]),
            value_E=np.concatenate([sequence.value_H for sequence in sequences]),
            worth_E=np.concatenate([sequence.worth_H for sequence in sequences]),
            scene_E=np.concatenate([sequence.scene_H for sequence in sequences]),
            told_EF=_told(sequences),
            code_EX=code_NX[item_E],
            known_E=known_N[item_E],
        )

    def ad_values(self) -> np.ndarray:
        """float64 [U]: money that each user's ad conversions of the training split brought."""
        counts_E = self.in_training_E & (self.kind_E == AD) & (self.action_E == ACTIONS.index("conversion"))
        place = np.searchsorted(counts_E.nonzero()[0], np.append(self.start_U, len(counts_E))).tolist()
        value_n = np.nan_to_num(self.value_E[counts_E])
        # User by user, not by a sum over all: float32 sums depend on how they are split.
        return np.array([float(value_n[a:b].sum()) for a, b in pairwise(place)])


@dataclass(frozen=True)
class Targets:
    """Requests by user and first target, and up to M targets of each: `event_n` is the `rank_n`-th of `request_n`."""

    user_K: np.ndarray
    now_ms_K: np.ndarray
    """When the request began: its earliest event, target or not."""
    scene_K: list[str]
    told_K: list[Codes]
    request_n: np.ndarray
    rank_n: np.ndarray
    event_n: np.ndarray
    scenes: set[str]
    """Of all requests, those without a known target too."""

    @classmethod
    def of(cls, events: JoinedEvents, action: str, most: int, seed: int) -> Self:
        """Of the requests of the training split. Each item counts once; of more than `most` targets the ads are taken
        first, the others by a draw that the seed fixes."""
        target_n = (events.in_training_E & (events.action_E == ACTIONS.index(action))).nonzero()[0]
        request_n, asked = pd.factorize(events.request_E[target_n])
        first_n = target_n[_first_places(request_n, len(asked))]  # of each request
        scene_of = [str(scene) for scene in events.scene_E[first_n]]
        known_n = events.known_E[target_n]
        request_n, target_n = request_n[known_n], target_n[known_n]
        once_n = ~pd.Index(request_n * (1 + len(events.item_E)) + events.item_E[target_n]).duplicated()
        request_n, target_n = request_n[once_n], target_n[once_n]
        now_ms = events.timestamp_E[_first_places(events.request_E)][asked]
        order_n = _order(events, request_n, target_n, now_ms, most, seed)
        request_n, target_n = request_n[order_n], target_n[order_n]
        kept, row_n, count_K = np.unique(request_n, return_inverse=True, return_counts=True)
        rank_n = np.arange(len(row_n)) - (np.cumsum(count_K) - count_K)[row_n]
        fits_n = rank_n < most
        return cls(
            user_K=events.owner_E[first_n[kept]],
            now_ms_K=now_ms[kept],
            scene_K=[scene_of[request] for request in kept.tolist()],
            told_K=_codes_at(events.told_EF, first_n[kept]),
            request_n=row_n[fits_n],
            rank_n=rank_n[fits_n],
            event_n=target_n[fits_n],
            scenes=set(scene_of),
        )


def _told(sequences: Sequence[UserSequence]) -> np.ndarray | None:
    parts = [sequence.told_HF for sequence in sequences if sequence.told_HF is not None]
    return np.concatenate(parts) if parts else None


def _codes_at(told_EF: np.ndarray | None, event_K: np.ndarray) -> list[Codes]:
    return [()] * len(event_K) if told_EF is None else [tuple(row) for row in told_EF[event_K].tolist()]


def _first_places(group_n: np.ndarray, groups: int | None = None) -> np.ndarray:
    """Where each group, numbered from 0, occurs first."""
    count = int(group_n.max(initial=-1)) + 1 if groups is None else groups
    first = np.zeros(count, dtype=np.int64)
    first[group_n[::-1]] = np.arange(len(group_n))[::-1]  # of several values for one place the last one stays
    return first


def _order(
    events: JoinedEvents, request_n: np.ndarray, target_n: np.ndarray, now_ms: np.ndarray, most: int, seed: int
) -> np.ndarray:
    """Request by request in the order of events; where there are too many, ads first and then as drawn."""
    by_request = np.argsort(request_n, kind="stable")
    count = np.bincount(request_n, minlength=len(now_ms))
    start = np.cumsum(count) - count
    crowded = count > most
    draw_n = np.zeros(len(request_n))
    for request in crowded.nonzero()[0].tolist():
        places = by_request[start[request] : start[request] + count[request]]
        end = _events_before(events, int(events.owner_E[target_n[places[0]]]), now_ms[request])
        draw_n[places] = _draw(seed, end, len(places))
    organic_n = (events.kind_E[target_n] != AD) & crowded[request_n]
    order_n: np.ndarray = np.lexsort((draw_n, organic_n, request_n))
    return order_n


def _draw(seed: int, end: int, count: int) -> np.ndarray:
    """What `default_rng((seed, end, count)).random(count)` draws; numpy reads words faster than a tuple of numbers."""
    words = np.array((seed, end, count), dtype=np.uint32)
    return np.random.Generator(np.random.PCG64(words)).random(count)


def _events_before(events: JoinedEvents, user: int, now_ms: int) -> int:
    """How many events of a user lie before a moment."""
    start = events.start_U[user]
    end = events.start_U[user + 1] if user + 1 < len(events.start_U) else len(events.owner_E)
    return int(np.searchsorted(events.timestamp_E[start:end], now_ms))
