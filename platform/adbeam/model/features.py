"""From a user's history and a moment to the arrays a model reads: one function for training, evaluation and serving.

Buckets are logarithmic, so that a day matters among days and a month among months. No feature tells absolute time:
what is served lies after everything that was trained on. Numpy only.

Shapes: H events of the history, T SID levels, S context length, F static features, C token features, N items.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from adbeam.model.spec import ACTIVITY, COUNT, DUE, RECENCY, SCENES, SHARE, VALUE, FeatureSpec
from adbeam.records import ACTIONS

_IMPRESSION = ACTIONS.index("impression")
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FIRST_SHARE = 2.0**-16


@dataclass(frozen=True)
class History:
    """One user's events, oldest first; items without a SID are left out."""

    code_HT: np.ndarray
    """int, SID codes."""
    timestamp_H: np.ndarray
    """int64, milliseconds since 1970, UTC."""
    action_H: np.ndarray
    """int, index into records.ACTIONS."""
    kind_H: np.ndarray
    """int, index into records.ITEM_KINDS."""
    value_H: np.ndarray
    """float, what the event was worth."""

    @classmethod
    def empty(cls, levels: int) -> Self:
        """The history of an unknown user."""
        none = np.zeros(0, dtype=np.int64)
        return cls(np.zeros((0, levels), dtype=np.int64), none, none, none, np.zeros(0, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.timestamp_H)

    def before(self, moment_ms: int) -> Self:
        """Only the events strictly before `moment_ms`."""
        return self.first(int(np.searchsorted(self.timestamp_H, moment_ms, side="left")))

    def deeds(self) -> Self:
        """Without impressions: they tell what was shown, not what the user did."""
        return self._pick(self.action_H > _IMPRESSION)

    def first(self, count: int) -> Self:
        """Only the `count` oldest events."""
        return self._pick(slice(count))

    def _pick(self, events: slice | np.ndarray) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[events] for f in fields(self)})


@dataclass(frozen=True)
class ContextRow:
    """One request's context in small types, as shards and batches carry it."""

    static_F: np.ndarray
    """int32 [F]."""
    code_ST: np.ndarray
    """int32 [S, T], -1 where there is no token. Token 0 carries the static features and has no code."""
    feature_SC: np.ndarray
    """uint8 [S, C]."""
    trend_code_NT: np.ndarray | None = None
    """int32, codes of trending ads, -1 where there is none; None where the model knows no trends."""
    trend_feature_NC: np.ndarray | None = None
    """uint8."""


def build_context(
    history: History,
    now_ms: int,
    scene: str,
    user_id: str | None,
    spec: FeatureSpec,
    trending: tuple[np.ndarray, np.ndarray] | None = None,
) -> ContextRow:
    """The context of a request at `now_ms`; events at or after it are not looked at, nor are impressions.

    `trending` is what `encode_trending` made of the ads that convert most lately.

    Token 0 is the static token, then the newest `short_length` events oldest first, then the `long_length` most
    frequent items of the whole history, most frequent first.
    """
    history = history.before(now_ms).deeds()
    code_ST = np.full((spec.context_length, spec.levels), -1, dtype=np.int32)
    feature_SC = np.zeros((spec.context_length, len(spec.token)), dtype=np.uint8)
    if len(history):
        items = _ItemTable.of(history, now_ms)
        _write_short(code_ST, feature_SC, history, items, now_ms, spec)
        _write_long(code_ST, feature_SC, history, items, spec)
    static_F = static_features(now_ms, scene, user_id, len(history), spec)
    if not spec.trending_length:
        return ContextRow(static_F, code_ST, feature_SC)
    return ContextRow(static_F, code_ST, feature_SC, *(trending or no_trending(spec)))


def encode_trending(code_nT: np.ndarray, share_nW: np.ndarray, spec: FeatureSpec) -> tuple[np.ndarray, np.ndarray]:
    """(codes int32 [N, T], features uint8 [N, C]) of up to N = `trending_length` trending ads, the first ones first."""
    code_NT, feature_NC = no_trending(spec)
    code_nT = code_nT[: spec.trending_length]
    code_NT[: len(code_nT)] = code_nT
    feature_NC[: len(code_nT)] = log_bucket(share_nW[: spec.trending_length], 2.0, FIRST_SHARE, SHARE)
    return code_NT, feature_NC


def no_trending(spec: FeatureSpec) -> tuple[np.ndarray, np.ndarray]:
    """What `encode_trending` makes of no ads."""
    code_NT = np.full((spec.trending_length, spec.levels), -1, dtype=np.int32)
    return code_NT, np.zeros((spec.trending_length, len(spec.trend)), dtype=np.uint8)


def static_features(now_ms: int, scene: str, user_id: str | None, events: int, spec: FeatureSpec) -> np.ndarray:
    """int32 [F]: scene, weekday, hour, user and activity buckets. Bucket 0 of the users is the unknown user."""
    day = now_ms // DAY_MS
    user = 0 if user_id is None or spec.static["user"] < 2 else 1 + _bucket(user_id, spec.static["user"] - 1)
    activity = min(ACTIVITY - 1, round(np.log2(events + 1)))
    values = [_bucket(scene, SCENES), (day + 3) % 7, now_ms % DAY_MS // HOUR_MS, user, activity]
    return np.array(values, dtype=np.int32)


def log_bucket(ratio: np.ndarray, per_doubling: float, first: float, buckets: int) -> np.ndarray:
    """int bucket of a positive ratio: 0 below `first`, then `per_doubling` buckets a factor of 2, the last one open."""
    bucket = np.floor(per_doubling * np.log2(np.maximum(ratio, 1e-12) / first)) + 1
    return np.clip(bucket, 0, buckets - 1).astype(np.uint8)


def recency_bucket(age_ms: np.ndarray) -> np.ndarray:
    """Bucket of a time since an event, two a factor of 2 from one hour up."""
    return log_bucket(age_ms / HOUR_MS, 2.0, 1.0, RECENCY)


def count_bucket(count: np.ndarray) -> np.ndarray:
    """0 for none, 1, 2, 3, 4 exactly, then two buckets a factor of 2."""
    return np.where(count <= 4, count, np.clip(np.floor(2 * np.log2(np.maximum(count, 1))), 4, COUNT - 1)).astype(
        np.uint8
    )


def due_bucket(since_last_ms: np.ndarray, span_ms: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Bucket of time since last / mean interval, two a factor of 2 from 1/16 up; 0 for a single occurrence."""
    interval_ms = np.maximum(span_ms, DAY_MS) / np.maximum(count - 1, 1)
    bucket = np.maximum(log_bucket(since_last_ms / interval_ms, 2.0, 1 / 16, DUE), 1)
    return np.where(count > 1, bucket, 0).astype(np.uint8)


def value_bucket(value: np.ndarray) -> np.ndarray:
    """Bucket of money, one a factor of 2 from 1/8 up; 0 is nothing."""
    return log_bucket(value, 1.0, 0.125, VALUE)


@dataclass(frozen=True)
class _ItemTable:
    """The distinct items of a history."""

    item_H: np.ndarray
    """Which item each event is of."""
    last_N: np.ndarray
    """Place of each item's newest event."""
    count_N: np.ndarray
    since_last_ms_N: np.ndarray
    due_N: np.ndarray
    """Due buckets."""

    @classmethod
    def of(cls, history: History, now_ms: int) -> Self:
        _, first_N, item_H, count_N = np.unique(
            _packed(history.code_HT), return_index=True, return_inverse=True, return_counts=True
        )
        last_N = np.zeros(len(first_N), dtype=np.int64)
        last_N[item_H] = np.arange(len(item_H))  # of equal places the last assignment stays: the newest event
        last_ms_N = history.timestamp_H[last_N]
        since_N = now_ms - last_ms_N
        due_N = due_bucket(since_N, last_ms_N - history.timestamp_H[first_N], count_N)
        return cls(item_H, last_N, count_N, since_N, due_N)


def _write_short(
    code_ST: np.ndarray, feature_SC: np.ndarray, history: History, items: _ItemTable, now_ms: int, spec: FeatureSpec
) -> None:
    newest = slice(max(0, len(history) - spec.short_length), len(history))
    item = items.item_H[newest]
    place = slice(1, 1 + len(item))
    code_ST[place] = history.code_HT[newest]
    feature_SC[place, 0] = 1
    feature_SC[place, 1] = history.action_H[newest]
    feature_SC[place, 2] = history.kind_H[newest]
    feature_SC[place, 3] = recency_bucket(now_ms - history.timestamp_H[newest])
    feature_SC[place, 4] = count_bucket(items.count_N[item])
    feature_SC[place, 5] = items.due_N[item]
    feature_SC[place, 6] = value_bucket(history.value_H[newest])


def _write_long(
    code_ST: np.ndarray, feature_SC: np.ndarray, history: History, items: _ItemTable, spec: FeatureSpec
) -> None:
    top = np.lexsort((-items.last_N, -items.count_N))[: spec.long_length]
    newest = items.last_N[top]
    start = 1 + spec.short_length
    place = slice(start, start + len(top))
    code_ST[place] = history.code_HT[newest]
    feature_SC[place, 0] = 2
    feature_SC[place, 1] = history.action_H[newest]
    feature_SC[place, 2] = history.kind_H[newest]
    feature_SC[place, 3] = recency_bucket(items.since_last_ms_N[top])
    feature_SC[place, 4] = count_bucket(items.count_N[top])
    feature_SC[place, 5] = items.due_N[top]
    feature_SC[place, 6] = value_bucket(history.value_H[newest])


def _packed(code_HT: np.ndarray) -> np.ndarray:
    """One int64 per SID; codebooks of up to 2^(63 / T) codes never collide."""
    packed = np.zeros(len(code_HT), dtype=np.int64)
    bits = 63 // code_HT.shape[1]
    for level in range(code_HT.shape[1]):
        packed = (packed << bits) | code_HT[:, level].astype(np.int64)
    return packed


def _bucket(text: str, buckets: int) -> int:
    """A stable hash bucket: the same in every process and on every machine."""
    return zlib.crc32(text.encode()) % buckets
