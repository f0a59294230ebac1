"""The context of a request: only the past, newest and most frequent items, buckets that stay in their vocabularies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from adbeam.features.buckets import (
    count_bucket,
    due_bucket,
    recency_bucket,
    value_bucket,
)
from adbeam.features.contexts import Contexts, Moment, build_contexts
from adbeam.features.history import History
from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.records import DAY_MS, HOUR_MS

CONFIG = ModelConfig(width=16, codebooks=(8, 8, 8), short_length=4, long_length=3)
SPEC = FeatureSpec.of(CONFIG)
START = 1_490_000_000_000 // DAY_MS * DAY_MS


def history_of(items: list[int], hours: Sequence[float] | np.ndarray) -> History:
    """Conversions of organic items whose codes are all the item's number."""
    count = len(items)
    return History(
        np.repeat(np.array(items)[:, None], 3, axis=1),
        START + (np.array(hours) * HOUR_MS).astype(np.int64),
        np.full(count, 3),
        np.ones(count, dtype=np.int64),
        np.full(count, 2.0, dtype=np.float32),
    )


def build(history: History, hour: float = 1000.0, user: str | None = "u", scene: str = "s") -> Contexts:
    return build_contexts([history], [Moment(START + int(hour * HOUR_MS), scene, user)], SPEC)


def test_short_pathway_is_the_newest_events_oldest_first() -> None:
    row = build(history_of([1, 2, 3, 1, 5, 6], [0, 1, 2, 3, 4, 5]))
    assert row.code_BST[0, 1:5, 0].tolist() == [3, 1, 5, 6]
    assert (row.code_BST[0, 0] == -1).all()
    assert row.feature_BSC[0, 1:5, 0].tolist() == [1, 1, 1, 1]


def test_long_pathway_is_the_most_frequent_items_then_the_newest() -> None:
    row = build(history_of([1, 2, 2, 3, 1, 2, 6, 7], range(8)))
    assert row.code_BST[0, 5:, 0].tolist() == [2, 1, 7]
    assert row.feature_BSC[0, 5:, 4].tolist() == [3, 2, 1], "count buckets"


def test_nothing_of_the_future_enters() -> None:
    full = history_of([1, 2, 3, 3, 3], [0, 10, 20, 20, 30])
    at_twenty = build(full, hour=20)
    past = build(history_of([1, 2], [0, 10]), hour=20)
    for name in ("static_BF", "code_BST", "feature_BSC"):
        assert np.array_equal(getattr(at_twenty, name), getattr(past, name))


def test_impressions_are_not_deeds() -> None:
    history = history_of([1, 5, 5, 5, 2], range(5))
    history.action_H[1:4] = 0
    bought = build(history_of([1, 2], [0, 4]))
    row = build(history)
    assert np.array_equal(row.code_BST, bought.code_BST) and np.array_equal(row.feature_BSC, bought.feature_BSC)


def test_no_feature_tells_absolute_time() -> None:
    """Four weeks later everything is the same."""
    items, hours = [1, 2, 1, 4], np.array([0, 50, 200, 300])
    now, later = build(history_of(items, hours), 400), build(history_of(items, hours + 672), 1072)
    for name in ("static_BF", "code_BST", "feature_BSC"):
        assert np.array_equal(getattr(now, name), getattr(later, name))


def test_unknown_user_has_one_token() -> None:
    batch = build(History.empty(3), user=None).batch()
    assert batch.mask_BS.tolist() == [[True] + [False] * 7]
    assert batch.static_BF[0, 3] == 0 and batch.static_BF[0, 4] == 0


def test_static_features_are_stable_across_processes() -> None:
    row = build(history_of([1], [0]), hour=25, user="household 7", scene="store 12")
    assert row.static_BF[0].tolist() == [33, 1, 1, 2630, 1]
    assert (START // DAY_MS + 3) % 7 == 0, "the start is a Monday"


def test_a_batch_keeps_rows_and_marks_tokens() -> None:
    histories = [history_of([1, 2], [0, 1]), history_of([3], [0])]
    contexts = build_contexts(histories, [Moment(START + DAY_MS, "s", "u")] * 2, SPEC)
    batch = contexts.batch()
    assert batch.code_BST.dtype == batch.feature_BSC.dtype == batch.static_BF.dtype == torch.int64
    assert batch.mask_BS[0].tolist() == [True, True, True, False, False, True, True, False]
    assert torch.equal(batch.code_BST[1], torch.from_numpy(contexts.code_BST[1]).long())


def test_buckets_are_logarithmic() -> None:
    hours = np.array([0.5, 1, 1.5, 2, 4, 1e9])
    assert recency_bucket(hours * HOUR_MS).tolist() == [0, 1, 2, 3, 5, 23]
    assert count_bucket(np.array([0, 1, 2, 3, 4, 6, 8, 10**6])).tolist() == [0, 1, 2, 3, 4, 5, 6, 15]
    assert value_bucket(np.array([0, 0.125, 1, 2, 1e12])).tolist() == [0, 1, 4, 5, 15]


def test_due_is_the_time_since_against_the_usual_interval() -> None:
    week = 7 * DAY_MS
    since, span, count = (
        np.array([week, 4 * week, week, week]),
        np.array([week, week, 3 * week, 0]),
        np.array([2, 2, 4, 1]),
    )
    on_time, late, on_time_too, once = due_bucket(since, span, count).tolist()
    assert on_time == on_time_too and late == on_time + 4 and once == 0


@pytest.mark.parametrize("seed", range(5))
def test_every_feature_stays_in_its_vocabulary(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 2000))
    history = History(
        rng.integers(0, 8, (size, 3)),
        np.sort(START + (10.0 ** rng.uniform(0, 12, size)).astype(np.int64)),
        rng.integers(0, 4, size),
        rng.integers(0, 2, size),
        (10.0 ** rng.uniform(-6, 9, size)).astype(np.float32),
    )
    row = build_contexts([history], [Moment(START + 10**12, f"scene {seed}", f"user {seed}")], SPEC)
    assert (row.static_BF >= 0).all() and (row.static_BF < list(SPEC.static.values())).all()
    assert (row.feature_BSC < list(SPEC.token.values())).all()


def test_the_spec_survives_storage() -> None:
    assert FeatureSpec.from_dict(SPEC.as_dict()) == SPEC


def test_a_context_is_what_it_was_when_bundles_in_use_were_trained() -> None:
    rng = np.random.default_rng(7)
    events = [rng.integers(0, high, 40) for high in (4, 2, 50)]
    history = History(rng.integers(0, 8, (40, 3)), np.sort(START + rng.integers(0, 60, 40) * 3 * HOUR_MS), *events)
    row = build(history, hour=100.5, user="household 7")
    digest = hashlib.sha256()
    for array in (row.static_BF, row.code_BST, row.feature_BSC):
        digest.update(str(array.dtype).encode() + array.tobytes())
    assert digest.hexdigest()[:16] == "5d169bf9edce4b04"
