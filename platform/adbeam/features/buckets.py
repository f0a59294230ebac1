"""The buckets that features fall into: logarithmic, so that a day matters among days and a month among months.

No feature tells absolute time: what is served lies after everything that was trained on. Numpy only.

Shapes: T SID levels, F static features, C features of a trending ad, W windows, N ads.
"""

from __future__ import annotations

import zlib

import numpy as np

from adbeam.features.spec import ACTIVITY, COUNT, DUE, RECENCY, SCENES, SHARE, VALUE, FeatureSpec
from adbeam.records import DAY_MS, HOUR_MS

FIRST_SHARE = 2.0**-16


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
    kept: np.ndarray = np.clip(bucket, 0, buckets - 1).astype(np.uint8)
    return kept


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


def _bucket(text: str, buckets: int) -> int:
    """A stable hash bucket: the same in every process and on every machine."""
    return zlib.crc32(text.encode()) % buckets
