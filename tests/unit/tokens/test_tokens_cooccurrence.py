"""Swing against its definition, eq 1 against a loop, and what the projection learns."""

from __future__ import annotations

from itertools import combinations
from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adbeam.tokens.config import CooccurrenceConfig
from adbeam.tokens.cooccurrence.contrastive import Projection, draw_batch, multi_positive_info_nce, train_projection
from adbeam.tokens.cooccurrence.projection import learn_projection, load_projection, projection_tensors
from adbeam.tokens.cooccurrence.swing import swing, user_items
from adbeam.tokens.embedders.behaviour import Interactions


def swing_by_definition(chosen: list[set[int]], items: int, alpha: float) -> np.ndarray:
    score_NN = np.zeros((items, items))
    for one, other in combinations(chosen, 2):
        for i, j in combinations(sorted(one & other), 2):
            score_NN[i, j] += 1 / (alpha + len(one & other))
    return score_NN + score_NN.T


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), users=st.integers(1, 25), items=st.integers(2, 12), per_range=st.integers(1, 12))
def test_swing_equals_its_definition_for_any_cut_into_ranges(seed, users, items, per_range) -> None:
    random = np.random.default_rng(seed)
    chosen = [set(random.choice(items, random.integers(1, items + 1), replace=False).tolist()) for _ in range(users)]
    pairs = np.array([(user, item) for user, mine in enumerate(chosen) for item in sorted(mine)])
    chosen_UN = user_items(pairs[:, 0], pairs[:, 1], items, max_items=100)
    found_NN = np.zeros((items, items))
    for part in swing(chosen_UN, alpha=0.7, neighbours=items, items_per_range=per_range):
        for row, (others, scores) in enumerate(zip(part.item_RK, part.score_RK, strict=True)):
            found_NN[part.first + row, others[others >= 0]] = scores[others >= 0]
    np.testing.assert_allclose(found_NN, swing_by_definition(chosen, items, 0.7), rtol=1e-5)


def test_only_the_strongest_neighbours_and_newest_items_count() -> None:
    user_R, item_R = np.array([0, 0, 0, 1, 1, 1, 2, 2]), np.array([0, 1, 2, 0, 1, 2, 0, 1])
    chosen_UN = user_items(user_R, item_R, 3, max_items=3)
    (part,) = swing(chosen_UN, alpha=1.0, neighbours=1, items_per_range=10)
    assert part.item_RK[:, 0].tolist() == [1, 0, 0]
    assert user_items(user_R, item_R, 3, max_items=2).toarray().tolist() == [[0, 1, 1], [0, 1, 1], [1, 1, 0]]


def test_info_nce_sums_the_positives_inside_the_log() -> None:
    z_BE = torch.nn.functional.normalize(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    positive_BB = torch.zeros(6, 6, dtype=torch.bool)
    for i, j in ((0, 1), (0, 2), (3, 4)):
        positive_BB[i, j] = positive_BB[j, i] = True
    positive_BB[5, 5] = True  # an item is never its own positive
    terms = []
    for i in range(5):
        weight = {k: exp(float(z_BE[i] @ z_BE[k]) / 0.2) for k in range(6) if k != i}
        terms.append(-log(sum(weight[j] for j in weight if positive_BB[i, j]) / sum(weight.values())))
    assert multi_positive_info_nce(z_BE, positive_BB, 0.2).item() == pytest.approx(sum(terms) / 5, rel=1e-5)


def test_a_batch_marks_every_pair_of_neighbours_it_holds() -> None:
    item_NK = np.array([[1, 2], [0, -1], [0, -1], [4, -1], [3, -1], [-1, -1]])
    score_NK = np.array([[3.0, 1], [3, 0], [1, 0], [2, 0], [2, 0], [0, 0]], np.float32)
    for seed in range(20):
        chosen_B, positive_BB = draw_batch(np.arange(5), item_NK, score_NK, 6, np.random.default_rng(seed))
        expected_BB = [[b in item_NK[a] or a in item_NK[b] for b in chosen_B] for a in chosen_B]
        np.testing.assert_array_equal(positive_BB, expected_BB)
        assert positive_BB.any()


def test_the_projection_starts_as_the_identity_and_keeps_empty_rows() -> None:
    x_NE = np.eye(4, dtype=np.float32)
    x_NE[3] = 0
    np.testing.assert_allclose(Projection(4, 8).apply_to(x_NE), x_NE)


def test_learning_brings_items_together_that_users_choose_together() -> None:
    """Content says nothing about the groups; 200 users do."""
    random = np.random.default_rng(0)
    content_NE = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(60, 16))), dim=-1).float().numpy()
    group_N = np.arange(60) % 6
    user_R = np.repeat(np.arange(200), 5)
    item_R = np.concatenate(
        [random.choice(np.flatnonzero(group_N == user % 6), 5, replace=False) for user in range(200)]
    )
    events = Interactions(user_R, user_R, item_R, [str(n) for n in range(60)])
    config = CooccurrenceConfig(epochs=120, batch_items=64, hidden=64, dropout=0.0, learning_rate=5e-3)
    projection = learn_projection(content_NE, np.arange(60), events, config, seed=0)
    loaded = load_projection(projection_tensors(projection))
    assert loaded is not None
    z_NE = loaded.apply_to(content_NE)
    assert nearest_agrees(content_NE, group_N) < 0.4
    assert nearest_agrees(z_NE, group_N) > 0.9


def nearest_agrees(x_NE: np.ndarray, group_N: np.ndarray) -> float:
    """Share of items whose nearest neighbour is of their group."""
    similar_NN = x_NE @ x_NE.T - 9 * np.eye(len(x_NE))
    return float((group_N[similar_NN.argmax(axis=1)] == group_N).mean())


def test_without_neighbours_the_projection_stays_the_identity() -> None:
    x_NE = np.eye(3, dtype=np.float32)
    nobody = np.full((3, 2), -1)
    projection = train_projection(x_NE, nobody, np.zeros((3, 2), np.float32), CooccurrenceConfig(), seed=0)
    np.testing.assert_allclose(projection.apply_to(x_NE), x_NE)
