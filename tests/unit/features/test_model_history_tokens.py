"""Tokens of a batch: the same as of each request alone, whatever the packing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adbeam.features import seen_items
from adbeam.features.history import History
from adbeam.features.spec import FeatureSpec
from adbeam.features.tokens import OWN, HistoryTokens
from adbeam.model.config import ModelConfig
from adbeam.records import DAY_MS

SPEC = FeatureSpec.of(ModelConfig(width=16, codebooks=(8, 8, 8), short_length=5, long_length=4))
NOW = 1_490_000_000_000


def random_history(rng: np.random.Generator, size: int, codes: int = 4) -> History:
    timestamp_H = np.sort(NOW - rng.integers(-DAY_MS, 90 * DAY_MS, size))
    return History(
        rng.integers(0, codes, (size, 3)),
        timestamp_H,
        rng.integers(0, 4, size).astype(np.int8),
        rng.integers(0, 2, size).astype(np.int8),
        rng.gamma(1.0, 3.0, size).astype(np.float32),
    )


@pytest.mark.parametrize("codes", [4, 1 << 20], ids=["packed into one integer", "too long to pack"])
def test_a_batch_gives_each_request_what_it_gets_alone(codes: int) -> None:
    rng = np.random.default_rng(0)
    histories = [random_history(rng, size, codes) for size in (40, 0, 1, 7, 300, 2)]
    moments = [NOW - place * DAY_MS for place in range(len(histories))]
    together = HistoryTokens.of(histories, moments, SPEC)
    for place, (history, moment) in enumerate(zip(histories, moments, strict=True)):
        alone = HistoryTokens.of([history], [moment], SPEC)
        assert np.array_equal(together.code_BST[place], alone.code_BST[0]), place
        assert np.array_equal(together.feature_BSC[place], alone.feature_BSC[0]), place
        counted = (history.timestamp_H < moment) & (history.action_H > 0)
        assert together.events_B[place] == counted.sum()


@pytest.mark.parametrize("codes", [4, 1 << 20], ids=["packed into one integer", "too long to pack"])
def test_requests_that_share_a_history_see_what_each_sees_alone(codes: int) -> None:
    rng = np.random.default_rng(1)
    pairs = []
    for size in (300, 0, 1, 40):
        history = random_history(rng, size, codes)
        pairs += [(history, NOW - int(days * DAY_MS)) for days in rng.integers(-2, 95, 9)]  # in no order of time
    together = HistoryTokens.of([history for history, _ in pairs], [moment for _, moment in pairs], SPEC)
    for place, (history, moment) in enumerate(pairs):
        alone = HistoryTokens.of([history.before(moment)], [moment], SPEC)
        assert np.array_equal(together.code_BST[place], alone.code_BST[0]), place
        assert np.array_equal(together.feature_BSC[place], alone.feature_BSC[0]), place
        assert together.events_B[place] == alone.events_B[0]


def test_grouping_is_by_request_then_item_then_place() -> None:
    owner_E = np.array([0, 0, 0, 1, 1])
    code_ET = np.array([[2, 1, 1], [1, 5, 0], [2, 1, 1], [2, 1, 1], [0, 0, 0]])
    order_E, new_E = seen_items.grouped(owner_E, code_ET)
    assert order_E.tolist() == [1, 0, 2, 4, 3]
    assert new_E.tolist() == [True, True, False, True, True]


def test_no_history_at_all_gives_no_token() -> None:
    tokens = HistoryTokens.of([History.empty(3), History.empty(3)], [NOW, NOW], SPEC)
    assert (tokens.code_BST == -1).all() and not tokens.feature_BSC.any() and not tokens.events_B.any()


def test_what_is_told_of_items_stands_with_each_event_and_groups_nothing() -> None:
    spec = FeatureSpec.of(
        ModelConfig(width=16, codebooks=(8, 8, 8), short_length=5, long_length=4, told_items={"tags": (300, 2)})
    )
    plain = random_history(np.random.default_rng(2), 40)
    told_HK = np.random.default_rng(3).integers(0, 300, (len(plain), 2))
    wide = replace(plain, code_HT=np.concatenate([plain.code_HT, told_HK], axis=1))
    tokens, bare = HistoryTokens.of([wide], [NOW], spec), HistoryTokens.of([plain], [NOW], SPEC)
    assert np.array_equal(tokens.code_BST, bare.code_BST), "items of one SID are one, whatever is told of them"
    assert np.array_equal(tokens.feature_BSC[..., :OWN], bare.feature_BSC)
    assert tokens.feature_BSC.dtype == np.int32 and bare.feature_BSC.dtype == np.uint8
    seen = (plain.timestamp_H < NOW) & (plain.action_H > 0)
    assert np.array_equal(tokens.feature_BSC[0, 1:6, OWN:], told_HK[seen][-5:])
    assert spec.token_offsets[7] == spec.token_offsets[8] and len(spec.token_offsets) == 7 + 2 + 2
