"""The history tokens of many requests at once: small array operations cost a batch hardly more than a request.

Numpy only. Shapes: B requests, H events of one history, E events of all, T SID levels, S context length, C token
features, N distinct items (the same item of two requests counts twice), n tokens written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from adbeam.features.buckets import count_bucket, due_bucket, recency_bucket, value_bucket
from adbeam.features.history import History
from adbeam.features.spec import FeatureSpec
from adbeam.records import ACTIONS

_IMPRESSION = ACTIONS.index("impression")
SHORT, LONG = 1, 2
"""The two pathways, as token feature 0 knows them."""


@dataclass(frozen=True)
class HistoryTokens:
    """int32 [B, S, T] codes, -1 where there is no token; uint8 [B, S, C] features; int64 [B] events looked at."""

    code_BST: np.ndarray
    feature_BSC: np.ndarray
    events_B: np.ndarray

    @classmethod
    def of(cls, histories: Sequence[History], now_ms_B: Sequence[int], spec: FeatureSpec) -> Self:
        """Of events before each request's moment that are no impressions: from place 1 on the newest `short_length`
        ones, oldest first, then the `long_length` most frequent items, most frequent first, of equal ones the newer."""
        B = len(histories)
        tokens = cls(
            np.full((B, spec.context_length, spec.levels), -1, dtype=np.int32),
            np.zeros((B, spec.context_length, len(spec.token)), dtype=np.uint8),
            np.zeros(B, dtype=np.int64),
        )
        events = _Events.of(histories, np.asarray(now_ms_B, dtype=np.int64))
        tokens.events_B[:] = events.count_B
        if len(events.owner_E):
            items = _Items.of(events)
            tokens._write_short(events, items, spec)
            tokens._write_long(events, items, spec)
        return tokens

    def _write_short(self, events: _Events, items: _Items, spec: FeatureSpec) -> None:
        end_B = np.cumsum(events.count_B)
        age_E = end_B[events.owner_E] - np.arange(len(events.owner_E))  # 1 is the newest
        event_n = (age_E <= spec.short_length).nonzero()[0]
        owner_n = events.owner_E[event_n]
        place_n = 1 + np.minimum(events.count_B, spec.short_length)[owner_n] - age_E[event_n]
        self._write(events, owner_n, place_n, event_n, SHORT)
        item_n = items.item_E[event_n]
        feature_nC = self.feature_BSC
        feature_nC[owner_n, place_n, 3] = recency_bucket(events.age_ms(event_n))
        feature_nC[owner_n, place_n, 4] = count_bucket(items.count_N[item_n])
        feature_nC[owner_n, place_n, 5] = items.due_N[item_n]

    def _write_long(self, events: _Events, items: _Items, spec: FeatureSpec) -> None:
        owner_N = events.owner_E[items.last_N]
        order_N = np.lexsort((-items.last_N, -items.count_N, owner_N))
        item_B = np.bincount(owner_N, minlength=len(events.count_B))
        rank_N = np.arange(len(order_N)) - (np.cumsum(item_B) - item_B)[owner_N[order_N]]
        kept = rank_N < spec.long_length
        item_n = order_N[kept]
        owner_n, event_n, place_n = owner_N[item_n], items.last_N[item_n], 1 + spec.short_length + rank_N[kept]
        self._write(events, owner_n, place_n, event_n, LONG)
        self.feature_BSC[owner_n, place_n, 3] = recency_bucket(events.age_ms(event_n))
        self.feature_BSC[owner_n, place_n, 4] = count_bucket(items.count_N[item_n])
        self.feature_BSC[owner_n, place_n, 5] = items.due_N[item_n]

    def _write(
        self, events: _Events, owner_n: np.ndarray, place_n: np.ndarray, event_n: np.ndarray, pathway: int
    ) -> None:
        self.code_BST[owner_n, place_n] = events.code_ET[event_n]
        self.feature_BSC[owner_n, place_n, 0] = pathway
        self.feature_BSC[owner_n, place_n, 1] = events.action_E[event_n]
        self.feature_BSC[owner_n, place_n, 2] = events.kind_E[event_n]
        self.feature_BSC[owner_n, place_n, 6] = value_bucket(events.value_E[event_n])


@dataclass(frozen=True)
class _Events:
    """What counts of all histories, request by request, oldest first. `owner_E` is the request of each event."""

    owner_E: np.ndarray
    count_B: np.ndarray
    now_ms_B: np.ndarray
    code_ET: np.ndarray
    timestamp_E: np.ndarray
    action_E: np.ndarray
    kind_E: np.ndarray
    value_E: np.ndarray

    @classmethod
    def of(cls, histories: Sequence[History], now_ms_B: np.ndarray) -> Self:
        owner_E = np.arange(len(histories)).repeat([len(history) for history in histories])
        timestamp_E = np.concatenate([history.timestamp_H for history in histories])
        action_E = np.concatenate([history.action_H for history in histories])
        code_ET = np.concatenate([history.code_HT for history in histories])
        kind_E = np.concatenate([history.kind_H for history in histories])
        value_E = np.concatenate([history.value_H for history in histories])
        kept_E = (action_E > _IMPRESSION) & (timestamp_E < now_ms_B[owner_E])
        if not kept_E.all():
            owner_E, timestamp_E, action_E = owner_E[kept_E], timestamp_E[kept_E], action_E[kept_E]
            code_ET, kind_E, value_E = code_ET[kept_E], kind_E[kept_E], value_E[kept_E]
        count_B = np.bincount(owner_E, minlength=len(histories))
        return cls(owner_E, count_B, now_ms_B, code_ET, timestamp_E, action_E, kind_E, value_E)

    def age_ms(self, event_n: np.ndarray) -> np.ndarray:
        """Time since events, at the moments of their requests."""
        age_n: np.ndarray = self.now_ms_B[self.owner_E[event_n]] - self.timestamp_E[event_n]
        return age_n


@dataclass(frozen=True)
class _Items:
    """The distinct items of each request: which item each event is of, each item's newest event, count, due bucket."""

    item_E: np.ndarray
    last_N: np.ndarray
    count_N: np.ndarray
    due_N: np.ndarray

    @classmethod
    def of(cls, events: _Events) -> Self:
        order_E, new_E = _grouped(events.owner_E, events.code_ET)
        item_E = np.empty(len(order_E), dtype=np.int64)
        item_E[order_E] = np.cumsum(new_E) - 1
        start_N = new_E.nonzero()[0]
        count_N = np.diff(start_N, append=len(order_E))
        first_N, last_N = order_E[start_N], order_E[start_N + count_N - 1]
        last_ms_N = events.timestamp_E[last_N]
        due_N = due_bucket(events.age_ms(last_N), last_ms_N - events.timestamp_E[first_N], count_N)
        return cls(item_E, last_N, count_N, due_N)


def _grouped(owner_E: np.ndarray, code_ET: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Events in the order of request, item and place, and where in that order a group begins.

    Where request, codes and place fit into 63 bits together, one sort of plain integers does it: several times as fast
    as sorting by keys.
    """
    E = len(owner_E)
    place_bits, key_E = int(E).bit_length(), owner_E.astype(np.int64)
    bits = place_bits + int(owner_E[-1]).bit_length()
    for code_E in code_ET.T:
        size = int(code_E.max()).bit_length()
        bits += size
        key_E = (key_E << size) | code_E
    if bits <= 63:
        key_E = np.sort((key_E << place_bits) | np.arange(E))
        order_E, key_E = key_E & ((1 << place_bits) - 1), key_E >> place_bits
        return order_E, np.diff(key_E, prepend=-1) != 0
    order_E = np.lexsort((*code_ET.T, owner_E))
    keys = np.concatenate([owner_E[:, None], code_ET], axis=1)[order_E]
    return order_E, np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])
