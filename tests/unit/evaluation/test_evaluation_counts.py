"""Count baselines against what brute force makes of a tiny log, and inside `adbeam evaluate` on a prepared one."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse
from tests.support.samples import write_sample_prepared

from adbeam.evaluation.baselines.counts import best_items
from adbeam.evaluation.baselines.ease import Ease
from adbeam.evaluation.baselines.events import Past, TrainingEvents
from adbeam.evaluation.baselines.neighbours import directed_neighbours, sequential_rules
from adbeam.evaluation.baselines.user_knn import UserKnn
from adbeam.evaluation.config import EaseConfig, EvaluationConfig, NeighbourBaselineConfig, UserKnnConfig
from adbeam.evaluation.evaluate import evaluate, judged_requests
from adbeam.logs.requests import read_sequences
from adbeam.records import ACTIONS
from adbeam.settings import Section

ITEMS = 7
CATALOGUE = pa.table({"title": ["soap", "soap bar", "tea", "green tea", "nail", "nail file", "unmet soap"]})


@pytest.fixture
def events() -> TrainingEvents:
    """Twenty users of one to six baskets of one to three items each; item 6 is never met."""
    rng = np.random.default_rng(1)
    user, item, basket, baskets = [], [], [], 0
    for number in range(20):
        for _ in range(rng.integers(1, 7)):
            for chosen in rng.choice(ITEMS - 1, rng.integers(1, 4), replace=False):
                user.append(number)
                item.append(int(chosen))
                basket.append(baskets)
            baskets += 1
    ids = [str(number) for number in range(ITEMS)]
    return TrainingEvents(np.array(user), np.array(item), np.array(basket), ids, [f"u{n}" for n in range(20)])


def pasts_of(events: TrainingEvents) -> list[Past]:
    return [
        Past(events.item_E[events.user_E == user], events.basket_E[events.user_E == user], user) for user in range(20)
    ]


def test_newest_events_vote_with_their_neighbours_older_baskets_less(events: TrainingEvents) -> None:
    config = NeighbourBaselineConfig(history_events=3, age_decay=0.5)
    votes = directed_neighbours(events, CATALOGUE, config)
    table_NN = votes.table_NN.toarray()
    past = Past(np.array([5, 0, 1, 2]), np.array([0, 1, 1, 4]))
    expected = 0.125 * (table_NN[0] + table_NN[1]) + table_NN[2]
    np.testing.assert_allclose(votes.score([past, Past.of(np.zeros(0, int))]).toarray(), [expected, 0 * expected])
    assert votes.score([Past.of(np.array([0]))]).toarray()[0, 6] > 0, "by its text alone"


def test_rules_ask_the_last_item_alone(events: TrainingEvents) -> None:
    rules = sequential_rules(events, NeighbourBaselineConfig(window_events=2))
    counted = np.zeros(ITEMS)
    for user in range(20):
        items = events.item_E[events.user_E == user]
        for place, item in enumerate(items):
            for distance in (1, 2):
                if item == 3 and place + distance < len(items) and items[place + distance] != 3:
                    counted[items[place + distance]] += 1 / distance
    np.testing.assert_allclose(rules.score([Past.of(np.array([0, 1, 3]))]).toarray()[0], counted)


def test_user_knn_is_that_of_its_formula(events: TrainingEvents) -> None:
    config = UserKnnConfig(neighbours=4, own_share=0.3, group_baskets=2, basket_decay=0.9, group_decay=0.6)
    vector_UN = np.array([_vector(past) for past in pasts_of(events)])
    found = UserKnn(events, config).score(pasts_of(events)).toarray()
    for user in range(20):
        distance_U = np.linalg.norm(vector_UN - vector_UN[user], axis=1)
        distance_U[user] = np.inf
        order = np.argsort(distance_U, kind="stable")
        if distance_U[order[3]] == distance_U[order[4]]:
            continue  # which of two equally near ones counts is nobody's rule
        expected = 0.3 * vector_UN[user] + 0.7 * vector_UN[order[:4]].mean(axis=0)
        np.testing.assert_allclose(found[user], expected, atol=1e-12)
    few = UserKnn(events, UserKnnConfig(users=5))
    assert few.vector_UN.shape[0] == 5, "so many were drawn"


def _vector(past: Past) -> np.ndarray:
    """Groups of two baskets from the newest: mean of baskets by 0.9^age, mean of groups by 0.6^age."""
    baskets = [set(past.item_H[past.basket_H == basket].tolist()) for basket in np.unique(past.basket_H)][::-1]
    groups = [baskets[start : start + 2] for start in range(0, len(baskets), 2)]
    vector_N = np.zeros(ITEMS)
    for age, group in enumerate(groups):
        for place, basket in enumerate(group):
            for item in basket:
                vector_N[item] += 0.6**age / len(groups) * 0.9**place / len(group)
    return vector_N


def test_ease_has_the_least_squares_of_a_zero_diagonal(events: TrainingEvents) -> None:
    ease = Ease(events, EaseConfig(penalty=2.0))
    had_UN = np.zeros((20, ITEMS - 1))
    had_UN[events.user_E, events.item_E] = 1
    for item in range(ITEMS - 1):  # each column solved alone, as ridge regression on the other items
        others = [other for other in range(ITEMS - 1) if other != item]
        x = had_UN[:, others]
        weights = np.linalg.solve(x.T @ x + 2 * np.eye(len(others)), x.T @ had_UN[:, item])
        np.testing.assert_allclose(ease.weight_MM[others, item], weights, atol=1e-5)
    score = ease.score([Past.of(np.array([2, 2, 6, 4]))]).toarray()[0]
    np.testing.assert_allclose(score[:6], np.maximum(ease.weight_MM[2] + ease.weight_MM[4], 0), atol=1e-6)
    assert len(Ease(events, EaseConfig(items=3)).item_M) == 3


def test_best_items_are_allowed_and_in_order() -> None:
    score_BN = sparse.csr_matrix(np.array([[0.0, 3.0, 1.0, 3.0, 2.0, 5.0]]))
    allowed_N = np.array([1, 1, 1, 1, 1, 0], bool)
    assert best_items(score_BN, 0, allowed_N, 3) == [1, 3, 4]
    assert best_items(score_BN, 0, allowed_N, 9) == [1, 3, 4, 2], "no score, no place"


class Settings(Section):
    """What `evaluate` reads."""

    work_dir: Path
    decoding: Any = SimpleNamespace(widths=(8,))
    evaluation: EvaluationConfig


def test_training_events_are_those_of_the_sequences(tmp_path: Path) -> None:
    log = write_sample_prepared(tmp_path)
    events = TrainingEvents.read(log)
    expected = [
        (sequence.user_id, sequence.item_H[place], sequence.request_H[place])
        for shard in log.sequences()
        for sequence in read_sequences(shard)
        for place in np.flatnonzero((sequence.split_H == 0) & (sequence.action_H == ACTIONS.index("conversion")))
    ]
    found = [
        (events.user_ids[user], events.item_ids[item]) for user, item in zip(events.user_E, events.item_E, strict=True)
    ]
    assert found == [(user, item) for user, item, _ in expected]
    same = [a[0] == b[0] and a[2] == b[2] for a, b in pairwise(expected)]
    assert (np.diff(events.basket_E) == 0).tolist() == same
    request = judged_requests(log, "test", None)[0]
    past = events.past(request)
    before = request.sequence.item_H[: request.end]
    counted = before[request.sequence.action_H[: request.end] >= events.floor]
    assert [events.item_ids[item] for item in past.item_H] == counted.tolist()
    assert events.user_ids[past.user] == request.sequence.user_id


def test_baselines_are_judged_beside_each_other_before_there_is_a_model(tmp_path: Path) -> None:
    log = write_sample_prepared(tmp_path)
    names = ("own_frequency", "neighbours", "sequential_rules", "user_knn", "ease")
    asked = EvaluationConfig(baselines=names, neighbours=NeighbourBaselineConfig(text_fields=()), max_requests=150)
    table = evaluate(Settings(work_dir=tmp_path, evaluation=asked), "validation", model=False)
    assert set(table) == {f"{question}/{name}" for question in ("all", "new") for name in names}
    assert json.loads((tmp_path / "evaluation" / "validation" / "table.json").read_text()) == table
    assert (
        table["new/neighbours"]["requests"]
        < table["all/neighbours"]["requests"]
        == len(judged_requests(log, "validation", 150))
    )
    assert table["all/user_knn"]["recall@10"] > 0.5 * table["all/own_frequency"]["recall@10"]
