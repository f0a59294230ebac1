"""The buckets that features fall into: logarithmic, so that a day matters among days and a month among months.

No feature tells absolute time: what is served lies after everything that was trained on. Numpy only.

Shapes: B requests, T SID levels, F static features, C features of a trending ad, W windows, N ads.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from adbeam.declared.encoder import Codes
from adbeam.features.spec import ACTIVITY, COUNT, DUE, RECENCY, SCENES, SHARE, VALUE, FeatureSpec
from adbeam.records import DAY_MS, HOUR_MS

FIRST_SHARE = 2.0**-16
OURS = 5
"""Static features that every model has, before the declared ones."""


def encode_trending(code_nT: np.ndarray, share_nW: np.ndarray, spec: FeatureSpec) -> tuple[np.ndarray, np.ndarray]:
    """(codes int32 [N, T], features uint8 [N, C]) of up to N = `trending_length` trending ads, the first ones first."""
    code_NT, feature_NC = no_trending(spec)
    code_nT = code_nT[: spec.trending_length]
    code_NT[: len(code_nT)] = code_nT
    feature_NC[: len(code_nT)] = share_bucket(share_nW[: spec.trending_length])
    return code_NT, feature_NC


def share_bucket(share_nW: np.ndarray) -> np.ndarray:
    """Bucket of an ad's share of a window's conversions, two a factor of 2 from FIRST_SHARE up."""
    return log_bucket(share_nW, 2.0, FIRST_SHARE, SHARE)


def no_trending(spec: FeatureSpec) -> tuple[np.ndarray, np.ndarray]:
    """What `encode_trending` makes of no ads."""
    code_NT = np.full((spec.trending_length, spec.levels), -1, dtype=np.int32)
    return code_NT, np.zeros((spec.trending_length, len(spec.trend)), dtype=np.uint8)


def static_features(
    now_ms_B: np.ndarray,
    scenes: Sequence[str],
    users: Sequence[str | None],
    events_B: np.ndarray,
    told: Sequence[Codes],
    spec: FeatureSpec,
) -> np.ndarray:
    """int32 [B, F]: scene, weekday, hour, user and activity buckets, then the codes of declared features, all missing
    where a request has `told` none. Bucket 0 of the users is the unknown user."""
    buckets = spec.static["user"] - 1
    static_BF = np.zeros((len(now_ms_B), len(spec.static_sizes)), dtype=np.int32)
    static_BF[:, 0] = [_bucket(scene, SCENES) for scene in scenes]
    static_BF[:, 1] = (now_ms_B // DAY_MS + 3) % 7
    static_BF[:, 2] = now_ms_B % DAY_MS // HOUR_MS
    static_BF[:, 3] = [0 if user is None or buckets < 1 else 1 + _bucket(user, buckets) for user in users]
    static_BF[:, 4] = np.minimum(ACTIVITY - 1, np.rint(np.log2(events_B + 1)))
    for place, codes in enumerate(told):
        if codes:
            static_BF[place, OURS:] = codes
    return static_BF


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


@lru_cache(4096)
def _bucket(text: str, buckets: int) -> int:
    """A stable hash bucket: the same in every process and on every machine."""
    return zlib.crc32(text.encode()) % buckets
