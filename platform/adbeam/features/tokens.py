"""The history tokens of many requests at once: small array operations cost a batch hardly more than a request.

Numpy only. Shapes: B requests, H events of one history, E events of all, R requests by history and moment, T SID
levels, S context length, C token features, n tokens written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from adbeam.features.buckets import count_bucket, due_bucket, recency_bucket, value_bucket
from adbeam.features.history import History
from adbeam.features.seen_items import SeenEvents, SeenItems
from adbeam.features.spec import FeatureSpec

SHORT, LONG = 1, 2
"""The two pathways, as token feature 0 knows them."""
OWN = 7
"""Token features that every model has, before the declared ones of items."""
OF_ORDER = 2
"""Token features before this one, pathway and action, tell nothing of when a context is read."""


@dataclass(frozen=True)
class HistoryTokens:
    """int32 [B, S, T] codes, -1 where there is no token; [B, S, C] features, uint8 as far as all fit into a byte, else
    int32; int64 [B] events looked at."""

    code_BST: np.ndarray
    feature_BSC: np.ndarray
    events_B: np.ndarray

    @classmethod
    def of(cls, histories: Sequence[History], now_ms_B: Sequence[int] | np.ndarray, spec: FeatureSpec) -> Self:
        """Of events before each request's moment that are no impressions: from place 1 on the newest `short_length`
        ones, oldest first, then the `long_length` most frequent items, most frequent first, of equal ones the newer.

        Requests of one user cost least where they stand together and bring the same `History` object, whole.
        """
        B = len(histories)
        tokens = cls(
            np.full((B, spec.context_length, spec.levels), -1, dtype=np.int32),
            np.zeros((B, spec.context_length, len(spec.token_sizes)), dtype=np.int32 if spec.wide_token else np.uint8),
            np.zeros(B, dtype=np.int64),
        )
        events = SeenEvents.of(histories, np.asarray(now_ms_B, dtype=np.int64), spec.levels)
        tokens.events_B[events.place_R] = events.end_R - events.start_R
        if len(events.owner_E):
            tokens._write(SeenItems.of(events), spec)
        return tokens

    def _write(self, items: SeenItems, spec: FeatureSpec) -> None:
        parts = _short(items.events, spec.short_length), _long(items, spec)
        pathway_n = np.repeat(np.array([SHORT, LONG], np.uint8), [len(part[0]) for part in parts])
        request_n, place_n, event_n = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        at_n = items.events.place_R[request_n] * spec.context_length + place_n
        self.code_BST.reshape(-1, spec.levels)[at_n] = items.events.code_ET[event_n]
        feature_nC = _features(items, request_n, event_n, pathway_n)
        own = feature_nC.shape[1]
        token_NC = self.feature_BSC.reshape(-1, self.feature_BSC.shape[-1])
        token_NC[at_n, :own] = feature_nC
        if token_NC.shape[1] > own:
            token_NC[at_n, own:] = items.events.told_EK[event_n]


def _short(events: SeenEvents, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(request, place in the context, event) of the newest events that each request sees."""
    request_n, rank_n = _ranks(np.minimum(events.end_R - events.start_R, length))
    oldest_R = np.maximum(events.end_R - length, events.start_R)
    return request_n, 1 + rank_n, oldest_R[request_n] + rank_n


def _long(items: SeenItems, spec: FeatureSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of the items that each request saw most often, each by its newest event."""
    newest_n, items_R = items.newest()
    request_n, rank_n = _ranks(np.minimum(items_R, spec.long_length))
    return request_n, 1 + spec.short_length + rank_n, newest_n[np.cumsum(items_R)[request_n] - 1 - rank_n]


def _ranks(count_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(request, 0 ... count - 1) of every request."""
    request_n = np.arange(len(count_R)).repeat(count_R)
    return request_n, np.arange(len(request_n)) - (np.cumsum(count_R) - count_R)[request_n]


def _features(items: SeenItems, request_n: np.ndarray, event_n: np.ndarray, pathway_n: np.ndarray) -> np.ndarray:
    """uint8 [n, OWN], in the order of `FeatureSpec.token`: all but the declared ones."""
    events = items.events
    count_n, first_ms_n, last_ms_n = items.of_events(request_n, event_n)
    now_ms_n = events.now_ms_R[request_n]
    feature_nC = np.empty((len(event_n), OWN), dtype=np.uint8)
    feature_nC[:, 0] = pathway_n
    feature_nC[:, 1] = events.action_E[event_n]
    feature_nC[:, 2] = events.kind_E[event_n]
    feature_nC[:, 3] = recency_bucket(now_ms_n - events.timestamp_E[event_n])
    feature_nC[:, 4] = count_bucket(count_n)
    feature_nC[:, 5] = due_bucket(now_ms_n - last_ms_n, last_ms_n - first_ms_n, count_n)
    feature_nC[:, 6] = _value_buckets(events.value_E, event_n)
    return feature_nC


def _value_buckets(value_E: np.ndarray, event_n: np.ndarray) -> np.ndarray:
    """Value buckets of events, by way of whichever is fewer: all events, or those asked for."""
    few = len(event_n) < len(value_E)
    return value_bucket(value_E[event_n]) if few else value_bucket(value_E)[event_n]
