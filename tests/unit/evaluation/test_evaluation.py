"""Metrics against hand-made lists, baselines against counted logs."""

from __future__ import annotations

import numpy as np
import pytest

from adbeam.evaluation.baselines import count_conversions, rank_popularity
from adbeam.evaluation.evaluate import summarise
from adbeam.evaluation.metrics import (
    bootstrap_ratio,
    measure,
    money_weighted_mean,
    ndcg_at,
    recall_at,
    value_ndcg_at,
    value_recall_at,
)
from adbeam.logs.requests import UserSequence, requests_in
from adbeam.records import ACTIONS, ITEM_KINDS, SPLITS

CONVERSION, IMPRESSION = ACTIONS.index("conversion"), ACTIONS.index("impression")
AD, ORGANIC = ITEM_KINDS.index("ad"), ITEM_KINDS.index("organic")
CATEGORIES = {"a": "x", "b": "x", "c": "y", "d": "y"}


def sequence(rows: list[tuple[str, int, str, str, int, int]], user: str = "u") -> UserSequence:
    """Rows of (split, timestamp, request, item, kind, action)."""
    split, time, request, item, kind, action = zip(*rows, strict=True)
    return UserSequence(
        user,
        np.array([SPLITS.index(name) for name in split]),
        np.array(request, dtype=object),
        np.array(time),
        np.array(item, dtype=object),
        np.array(kind),
        np.array(["home"] * len(rows), dtype=object),
        np.array(action),
        np.full(len(rows), 2.0, dtype=np.float32),
    )


def test_recall_is_the_share_of_targets_found():
    targets = {"a": 1.0, "b": 9.0}
    assert recall_at(["c", "a", "d"], targets, 2) == 0.5
    assert recall_at(["c", "d", "a"], targets, 2) == 0.0
    assert value_recall_at(["b"], targets, 1) == pytest.approx(0.9)
    assert value_recall_at(["b"], {"a": 0.0, "b": 0.0}, 1) == 0.5


def test_ndcg_counts_places():
    assert ndcg_at(["a", "b"], {"a": 1.0, "b": 1.0}, 2) == pytest.approx(1.0)
    assert ndcg_at(["c", "a"], {"a": 1.0}, 2) == pytest.approx(1 / np.log2(3))
    assert value_ndcg_at(["b", "a"], {"a": 1.0, "b": 9.0}, 2) == pytest.approx(1.0)
    assert value_ndcg_at(["a", "b"], {"a": 1.0, "b": 9.0}, 2) < 1.0


def test_measure_names_metric_and_cutoff():
    assert set(measure(["a"], {"a": 1.0}, (1, 5))) >= {"recall@1", "ndcg@5", "value_recall@5"}


def test_weighted_by_money_a_recall_is_the_share_of_all_money():
    answers = [(["a"], {"a": 1.0, "b": 9.0}), (["c"], {"c": 90.0}), (["d"], {"e": 0.0})]
    rows = [
        {"question": "all", "method": "model", "money": sum(targets.values()), **measure(ranked, targets, (1,))}
        for ranked, targets in answers
    ]
    means = summarise(rows)["all/model"]
    assert means["value_recall@1"] == pytest.approx((0.1 + 1 + 0) / 3)
    assert means["money_recall@1"] == pytest.approx((1 + 90) / 100)
    assert means["money_ndcg@1"] == pytest.approx((10 * (1 / 9) + 90) / 100)
    assert means["requests"] == 3
    assert money_weighted_mean(np.array([0.2, 0.4]), np.zeros(2)) == pytest.approx(0.3), "no money at all"


def test_a_request_knows_only_what_came_strictly_before_it():
    events = sequence(
        [
            ("train", 1, "r1", "a", AD, CONVERSION),
            ("train", 5, "r2", "b", AD, IMPRESSION),
            ("test", 5, "r3", "c", ORGANIC, CONVERSION),
            ("test", 5, "r3", "b", AD, CONVERSION),
            ("test", 6, "r3", "b", AD, CONVERSION),
        ]
    )
    (request,) = requests_in(events, "test")
    assert (request.now_ms, request.history_items().tolist()) == (5, ["a"])
    assert request.ad_targets() == {"b": 4.0}
    assert request.targets.tolist() == ["c", "b", "b"]


def test_baselines_count_before_the_judged_split_only():
    events = sequence(
        [
            ("train", 1, "r1", "b", AD, CONVERSION),
            ("train", 2, "r2", "c", ORGANIC, CONVERSION),
            ("validation", 3, "r3", "c", AD, CONVERSION),
            ("validation", 4, "r4", "c", AD, CONVERSION),
            ("test", 5, "r5", "d", AD, CONVERSION),
        ]
    )
    assert count_conversions([events], CATEGORIES.keys(), before="validation") == {"b": 1}
    counts = count_conversions([events], CATEGORIES.keys(), before="test")
    popularity = rank_popularity(counts, CATEGORIES)
    (request,) = requests_in(events, "test")
    assert popularity.popularity(request, set(), 3) == ["c", "b", "a"]
    assert popularity.popularity(request, {"c"}, 2) == ["b", "a"]
    assert popularity.own_frequency(request, set(), 3) == ["c", "b", "a"]
    assert popularity.last_category(request, set(), 3) == ["c", "d", "b"]


def test_paired_bootstrap_of_equal_models_is_one():
    recall = np.random.default_rng(0).random((3, 200))
    ratio, lower, upper = bootstrap_ratio(recall, recall)
    assert ratio == lower == upper == 1.0
    ratio, lower, upper = bootstrap_ratio(recall * 0.5, recall)
    assert lower <= ratio <= upper and ratio == pytest.approx(0.5)
