"""Dense vectors as codes: parts are told apart, the nearest centre is found, what was fitted is read back alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from adbeam.declared.encoder import FIRST, MISSING, FeatureEncoder
from adbeam.declared.fit import fit_vectors
from adbeam.declared.vectors import fit_centres, nearest
from adbeam.errors import UserError
from adbeam.logs.told.vectors import to_vectors
from adbeam.targeting.features import FeatureConfig

LOOK = FeatureConfig(kind="vector", source="item", model=True, dimensions=4, parts=2, buckets=3)


def test_each_part_has_centres_and_codes_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corner = np.array([[0.0, 0.0], [5.0, 5.0], [-5.0, 5.0]])
    which = rng.integers(3, size=(300, 2))
    x_nD = np.concatenate([corner[which[:, 0]], corner[which[:, 1]]], 1) + rng.normal(scale=0.1, size=(300, 4))
    one = fit_vectors("look", LOOK, x_nD)
    codes = one.encode_vectors(x_nD)
    assert one.size == FIRST + 2 * 3 and one.columns == 2 and one.dimensions == 4
    assert set(codes[:, 0].tolist()) == {2, 3, 4} and set(codes[:, 1].tolist()) == {5, 6, 7}
    for part in range(2):
        groups = {tuple(pair) for pair in zip(which[:, part].tolist(), codes[:, part].tolist(), strict=True)}
        assert len(groups) == 3, "every corner has one code"
    nothing = one.encode_vectors(np.full((1, 4), np.nan))
    assert nothing.tolist() == [[MISSING, MISSING]]
    FeatureEncoder((), (one,)).write(tmp_path)
    again = FeatureEncoder.read(tmp_path)
    assert again is not None and again.items == (one,) and not again.features and again.columns == 0
    assert np.array_equal(again.items[0].encode_vectors(x_nD), codes)


def test_fewer_vectors_than_centres_are_enough_and_ties_go_to_the_first() -> None:
    centres = fit_centres(np.array([[1.0, 2.0], [1.0, 2.0]]), 1, 3)
    assert centres.shape == (1, 3, 2) and nearest(np.array([[9.0, 9.0]]), centres).tolist() == [[0]]
    with pytest.raises(UserError, match="no item of the training split has a vector"):
        fit_vectors("look", LOOK, np.zeros((0, 4)))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("[1, 2.5]", [1.0, 2.5]),
        ([1, 2], [1.0, 2.0]),
        (None, None),
        (" ", None),
        ("[1]", "bad"),
        ("[1, NaN]", "bad"),
        ("[1, true]", "bad"),
        ('["1", "2"]', "bad"),
        ("red", "bad"),
        ("[" * 5000, "bad"),
    ],
)
def test_what_is_a_vector_and_what_is_none(value: object, kept: object) -> None:
    column = pa.array([value], pa.list_(pa.float64()) if isinstance(value, list) else pa.string())
    lists, [(wrong, reason)] = to_vectors(column, "look", 2)
    assert lists.to_pylist() == [None if kept == "bad" else kept]
    assert wrong.tolist() == [kept == "bad"] and reason == "look is not a vector of 2 numbers"


def test_a_column_that_holds_no_lists_is_refused() -> None:
    with pytest.raises(UserError, match="holds no vectors"):
        to_vectors(pa.array([1.0]), "look", 2)
