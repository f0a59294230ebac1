"""Balanced codebooks, residual quantization, the hashed last level and the quality figures."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adbeam.errors import UserError
from adbeam.tokens.config import QuantizerConfig
from adbeam.tokens.metrics import items_per_sid, path_similarity, sid_groups, sid_quality
from adbeam.tokens.quantizers.balanced import balanced_kmeans
from adbeam.tokens.quantizers.cheapest_code import cheapest, two_cheapest
from adbeam.tokens.quantizers.hashed_level import hash_business_fields
from adbeam.tokens.quantizers.rq_kmeans import RQKMeans, distinct


def clumps(seed: int, vectors: int, features: int, spread: float) -> np.ndarray:
    """A few clusters of very different size: what collapses a plain codebook."""
    random = np.random.default_rng(seed)
    centre_CE = random.normal(size=(8, features))
    share_C = random.dirichlet(np.full(8, 0.3))
    x_NE = centre_CE[random.choice(8, vectors, p=share_C)] + spread * random.normal(size=(vectors, features))
    return x_NE.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    codes=st.integers(2, 40),
    extra=st.integers(0, 400),
    features=st.integers(1, 8),
    spread=st.sampled_from([0.01, 0.3, 3.0]),
)
def test_balanced_kmeans_leaves_no_code_empty_and_bounds_every_cell(seed, codes, extra, features, spread) -> None:
    x_NE = distinct(clumps(seed, 2 * codes + extra, features, spread))
    codes = min(codes, len(x_NE) // 2)
    _, code_N = balanced_kmeans(x_NE, codes, bound=1.5, iterations=5, rounds=2, seed=0)
    count_V = np.bincount(code_N, minlength=codes)
    assert count_V.min() >= 1
    assert count_V.max() <= 1.5 * len(x_NE) / codes


def test_the_rule_for_new_vectors_gives_the_balanced_cells_again() -> None:
    x_NE = distinct(clumps(3, 3000, 16, 0.2))
    codebook, code_N = balanced_kmeans(x_NE, 32, bound=1.5, iterations=10, rounds=4, seed=0)
    np.testing.assert_array_equal(cheapest(x_NE, codebook.centroid_VE, codebook.price_V), code_N)


def test_integer_grids_full_of_ties_stay_within_the_bound() -> None:
    grid_NE = np.stack(np.meshgrid(np.arange(15), np.arange(15)), -1).reshape(-1, 2).astype(np.float32)
    _, code_N = balanced_kmeans(grid_NE, 20, bound=1.5, iterations=5, rounds=2, seed=0)
    assert np.bincount(code_N, minlength=20).min() >= 1 and np.bincount(code_N).max() <= 1.5 * 225 / 20


def test_cheapest_is_the_least_distance_plus_price() -> None:
    random = np.random.default_rng(0)
    x_NE, centroid_VE = random.normal(size=(200, 5)).astype(np.float32), random.normal(size=(9, 5)).astype(np.float32)
    price_V = random.random(9)
    cost_NV = np.square(x_NE[:, None] - centroid_VE).sum(-1) + price_V
    code_N, cost_N, margin_N = two_cheapest(x_NE, centroid_VE, price_V)
    np.testing.assert_array_equal(code_N, cost_NV.argmin(1))
    np.testing.assert_array_equal(cheapest(x_NE, centroid_VE, price_V), cost_NV.argmin(1))
    ordered_NV = np.sort(cost_NV, 1)
    np.testing.assert_allclose(margin_N, ordered_NV[:, 1] - ordered_NV[:, 0], atol=1e-4)
    np.testing.assert_allclose(cost_N + np.square(x_NE).sum(1), ordered_NV[:, 0], atol=1e-4)


def test_encode_follows_the_residual_recursion_and_survives_its_state() -> None:
    x_NE = clumps(1, 2000, 12, 0.5)
    business_N = np.arange(2000, dtype=np.uint64) * np.uint64(2**40 + 7)
    quantizer = RQKMeans((32, 16, 10), QuantizerConfig(), seed=0)
    quantizer.fit(x_NE)
    sids_NT = quantizer.encode(x_NE, business_N)
    first, second = quantizer.levels
    residual_E = x_NE[5] - first.centroid_VE[sids_NT[5, 0]]
    assert sids_NT[5, 1] == (np.square(residual_E - second.centroid_VE).sum(1) + second.price_V).argmin()
    assert sids_NT[5, 2] == int(business_N[5]) % 10
    restored = RQKMeans.from_state(*quantizer.state())
    np.testing.assert_array_equal(restored.encode(x_NE, business_N), sids_NT)


def test_a_second_level_brings_the_reconstruction_closer() -> None:
    x_NE = clumps(2, 3000, 12, 0.5)
    error = []
    for codebooks in ((32,), (32, 32), (32, 32, 32)):
        quantizer = RQKMeans(codebooks, QuantizerConfig(hashed_last_level=False), seed=0)
        quantizer.fit(x_NE)
        error.append(np.square(x_NE - quantizer.reconstruct(quantizer.encode(x_NE, None))).mean())
    assert error[0] > 1.2 * error[1] > 1.2 * error[2]


def test_scarce_vectors_shrink_the_codebooks_or_are_refused() -> None:
    x_NE = clumps(1, 50, 6, 0.5)
    shrunk = RQKMeans((256, 128, 16), QuantizerConfig(), seed=0)
    shrunk.fit(x_NE)
    assert shrunk.fitted_sizes[0] == 25 and max(shrunk.fitted_sizes) <= 25
    assert shrunk.encode(x_NE, np.arange(50, dtype=np.uint64))[:, :2].max() < 25
    with pytest.raises(UserError, match=r"model\.codebooks.*choose at most 25"):
        RQKMeans((256, 128, 16), QuantizerConfig(shrink_codebooks=False), seed=0).fit(x_NE)
    with pytest.raises(UserError, match="hashed_last_level"):
        RQKMeans((256,), QuantizerConfig())


def test_identical_content_gets_other_sids_by_its_business_fields() -> None:
    quantizer = RQKMeans((4, 4, 1024), QuantizerConfig(), seed=0)
    x_NE = clumps(1, 100, 4, 0.5)
    quantizer.fit(x_NE)
    ads = pa.table({"item_id": [f"ad{n}" for n in range(50)], "advertiser": ["one"] * 50})
    sids_NT = quantizer.encode(np.repeat(x_NE[:1], 50, 0), hash_business_fields(ads, ("item_id", "advertiser")))
    assert len(np.unique(sids_NT[:, :2], axis=0)) == 1
    assert len(np.unique(sids_NT[:, 2])) >= 45


def test_the_business_hash_is_the_same_in_every_version() -> None:
    ads = pa.table({"item_id": ["a", "b"], "advertiser": ["x", None]})
    assert hash_business_fields(ads, ("item_id", "advertiser")).tolist() == [10735340660300136313, 14574603258110193695]
    with pytest.raises(UserError, match=r"business_fields.*no column 'account'.*choose from item_id, advertiser"):
        hash_business_fields(ads, ("item_id", "account"))


def test_col_counts_occupied_sids_not_items() -> None:
    quality = sid_quality(np.array([[0, 1], [0, 1], [2, 3]]), (4, 5))
    assert (quality["col"], quality["cpr"], quality["util"]) == (0.5, 1.5, 0.1)
    assert quality["item_collision"] == pytest.approx(2 / 3)
    assert quality["levels"][0]["utilisation"] == 0.5
    assert quality["levels"][1]["perplexity"] == pytest.approx(3 / 4 ** (1 / 3))
    assert quality["levels"][0]["largest_cell_over_mean"] == pytest.approx(2 / (3 / 4))
    assert items_per_sid(np.array([[0, 1], [0, 1], [2, 3]])) == {1: 1, 2: 1}


def test_sid_groups_tell_large_code_spaces_apart() -> None:
    sids_NT = np.array([[16383, 4095, 1023], [16383, 4095, 1022], [0, 0, 0], [16383, 4095, 1023]], np.int32)
    assert sid_groups(sids_NT).tolist() == [2, 1, 0, 2]


def test_path_similarity_is_the_mean_cosine_of_items_on_one_sid() -> None:
    x_NE = np.array([[1, 0], [0, 2], [3, 0], [1, 1]], np.float32)
    assert path_similarity(x_NE, np.array([[0], [0], [0], [1]])) == pytest.approx(1 / 3)
    assert path_similarity(x_NE, np.array([[0], [1], [2], [3]])) is None
