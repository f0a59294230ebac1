"""Directed neighbours against sums over all pairs of a tiny log, and texts against cosines taken one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from adbeam.tokens.config import NeighboursConfig
from adbeam.tokens.cooccurrence.directed import DirectedCounts, NeighbourRows, PairWeights, TextSimilarity, strongest
from adbeam.tokens.cooccurrence.directed_job import neighbour_table

ITEMS = 9
CONFIG = NeighboursConfig(window_events=3, neighbours=4, text_neighbours=3, items_per_range=4)
CATALOGUE = pa.table(
    {
        "title": ["red soap", "red soap bar", "green tea", "tea green leaf", "", "nail file", "nail", "soap", "tea"],
        "brand": ["a", "a", "b", "b", None, "c", "c", "a", "b"],
    }
)


@pytest.fixture
def events() -> tuple[np.ndarray, np.ndarray]:
    """Users with one to eleven events; items repeat, and the last one is never met."""
    rng = np.random.default_rng(0)
    user_E = np.repeat(np.arange(12), rng.integers(1, 12, 12))
    return user_E, rng.integers(0, ITEMS - 1, len(user_E))


def brute_force(user_E: np.ndarray, item_E: np.ndarray, config: NeighboursConfig) -> np.ndarray:
    score_NN = np.zeros((ITEMS, ITEMS))
    events_N = np.maximum(np.bincount(item_E, minlength=ITEMS), 1)
    for user in set(user_E.tolist()):
        items = item_E[user_E == user].tolist()
        for i, a in enumerate(items):
            for j, b in enumerate(items):
                if a == b or not 1 <= abs(i - j) <= config.window_events:
                    continue
                weight = config.distance_decay ** (abs(i - j) - 1) * len(items) ** -config.length_damping
                weight *= 1.0 if j > i else config.backward_weight
                score_NN[a, b] += weight * events_N[a] ** -config.source_damping * events_N[b] ** -config.target_damping
    return score_NN


def test_sums_are_those_over_all_pairs(events: tuple[np.ndarray, np.ndarray]) -> None:
    counts = DirectedCounts(*events, ITEMS, PairWeights.of(CONFIG))
    expected = brute_force(*events, CONFIG)
    np.testing.assert_allclose(counts.rows(0, ITEMS).toarray(), expected)
    np.testing.assert_allclose(counts.rows(2, 5).toarray(), expected[2:5])
    assert not np.allclose(expected, expected.T), "direction counts"


def test_sequential_rules_count_what_came_later_by_one_over_the_distance() -> None:
    counts = DirectedCounts(np.array([0, 0, 0, 1]), np.array([4, 2, 7, 2]), ITEMS, PairWeights.sequential_rules(10))
    rows = counts.rows(0, ITEMS).toarray()
    assert (rows[4, 2], rows[4, 7], rows[2, 7]) == (1.0, 0.5, 1.0) and rows.sum() == 2.5


def test_texts_that_share_rare_words_are_neighbours(events: tuple[np.ndarray, np.ndarray]) -> None:
    text = TextSimilarity(CATALOGUE, CONFIG)
    cosine_NN = (text.term_NH @ text.term_NH.T).toarray()
    np.fill_diagonal(cosine_NN, 0)
    rows = text.rows(0, ITEMS).toarray()
    for item in range(ITEMS):
        near = np.argsort(-cosine_NN[item], kind="stable")[:3]
        np.testing.assert_allclose(rows[item, near], 0.8 * cosine_NN[item, near] ** 3, rtol=1e-5)
        assert np.count_nonzero(rows[item]) <= 3
    assert not rows[4].any() and rows[0].argmax() == 1 and rows[5].argmax() == 6
    assert not TextSimilarity(CATALOGUE, NeighboursConfig(text_fields=())).rows(0, ITEMS).nnz


def test_a_table_keeps_the_strongest_that_may_be_answered(events: tuple[np.ndarray, np.ndarray]) -> None:
    counts = DirectedCounts(*events, ITEMS, PairWeights.of(CONFIG))
    answers_N = np.arange(ITEMS) != 3
    table = neighbour_table(NeighbourRows(counts, TextSimilarity(CATALOGUE, CONFIG), 4, answers_N), 4)
    both = counts.rows(0, ITEMS).toarray() + TextSimilarity(CATALOGUE, CONFIG).rows(0, ITEMS).toarray()
    both[:, 3] = 0
    for item in range(ITEMS):
        best = np.sort(both[item])[::-1][:4]
        np.testing.assert_allclose(np.sort(table[item].data)[::-1], best[best > 0], rtol=1e-6)
    assert table[8].nnz, "an item that nobody met has neighbours by its text"


def test_of_equal_scores_the_first_items_stay() -> None:
    counts = DirectedCounts(np.zeros(4, int), np.array([5, 3, 1, 0]), ITEMS, PairWeights(np.ones(3)))
    assert strongest(counts.rows(0, ITEMS), 2)[5].indices.tolist() == [0, 1]


def test_no_events_have_no_neighbours() -> None:
    counts = DirectedCounts(np.zeros(0, int), np.zeros(0, int), ITEMS, PairWeights.of(CONFIG))
    assert counts.rows(0, ITEMS).nnz == 0
