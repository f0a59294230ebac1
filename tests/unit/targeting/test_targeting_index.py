"""The compiled rules leave exactly the ads that the rules themselves leave, and take little memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tests.support.targeting.random_rules import FEATURES, NOW_MS, random_text, random_told, random_unread

from adbeam.errors import UserError
from adbeam.targeting.compiled.index import KEPT_MASKS, CompiledRules
from adbeam.targeting.compiled.postings import Postings, marked, unpack
from adbeam.targeting.compiled.reading import UndeclaredFeatures
from adbeam.targeting.features import FeatureConfig
from adbeam.targeting.rules import stored_rules
from adbeam.targeting.told import Told


def _brute_force(texts: list[str | None], told: Told) -> list[bool]:
    return [text is None or stored_rules(text).hold(told) for text in texts]


@pytest.mark.parametrize("seed", range(12))
def test_the_mask_is_that_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [random_text(rng) for _ in range(int(rng.integers(1, 700)))]
    compiled = CompiledRules(pa.array(texts, pa.string()), FEATURES)
    asked = [random_told(rng) if place % 2 else random_unread(rng) for place in range(40)]
    for told in [*asked, *asked[:10]]:  # some again, from the kept masks
        assert compiled.allow(told).tolist() == _brute_force(texts, told)


def test_a_mask_may_be_written_to() -> None:
    compiled = CompiledRules(pa.array(['{"scenes":["home"]}', None], pa.string()), FEATURES)
    told = Told((), "home", NOW_MS)
    compiled.allow(told)[:] = False
    assert compiled.allow(told).tolist() == [True, True]


def test_kept_masks_are_bounded() -> None:
    compiled = CompiledRules(pa.array(['{"store":{"in":["3"]}}'], pa.string()), FEATURES)
    for store in range(KEPT_MASKS + 50):
        assert compiled.allow(Told((("store", str(store)),), "home", NOW_MS)).tolist() == [store == 3]
    assert len(compiled._kept) == KEPT_MASKS


def test_no_rules_and_no_ads() -> None:
    told = Told((), "home", NOW_MS)
    assert CompiledRules(pa.nulls(3, pa.string()), FEATURES).allow(told).tolist() == [True] * 3
    assert CompiledRules(pa.nulls(0, pa.string()), {}).allow(told).tolist() == []


def test_rules_over_other_features_are_refused_by_name() -> None:
    for text, said in (
        ('{"nation":{"in":["de"]}}', "'nation', which is no declared feature"),
        ('{"age":{"in":["18"]}}', "features.age.kind"),
        ('{"country":{"from":1.0}}', "features.country.kind"),
    ):
        with pytest.raises(UndeclaredFeatures) as caught:
            CompiledRules(pa.array([None, text], pa.string()), FEATURES)
        assert said in str(caught.value)
    with pytest.raises(UserError, match="no rules"):
        CompiledRules(pa.array(["for everybody"], pa.string()), FEATURES)


def test_bitmaps() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 63, 64, 65, 1000):
        bits_N = rng.random(size) < 0.3
        assert unpack(marked(bits_N.nonzero()[0], size), size).tolist() == bits_N.tolist()
    key_P, row_P = rng.integers(0, 50, 3000) ** 2 // 50, rng.integers(0, 1000, 3000)
    postings = Postings(key_P, row_P, 50, 1000)
    for keys in (np.array([0]), np.array([49]), np.arange(50), np.zeros(0, np.int64)):
        wanted = np.unique(row_P[np.isin(key_P, keys)])
        words = marked(np.zeros(0, np.int64), 1000)
        postings.add(words, keys)
        assert unpack(words, 1000).nonzero()[0].tolist() == wanted.tolist()
        words = ~words
        words[:] = ~np.uint64(0)
        postings.take_out(words, keys)
        assert (~unpack(words, 1000)).nonzero()[0].tolist() == wanted.tolist()


def test_memory_is_that_of_bits_and_short_lists() -> None:
    """A word of 10,000 costs four bytes an ad that names it, one of ten at most a bit an ad of the catalogue."""
    rng, ads = np.random.default_rng(0), 20_000
    stores, regions = rng.integers(0, 10_000, (2, ads)), rng.integers(0, 10, ads)
    texts = [
        f'{{"region":{{"in":["{region}"]}},"store":{{"in":["{one}","{two}"]}}}}'
        for region, one, two in zip(regions, *stores, strict=True)
    ]
    features = {name: FeatureConfig(kind="category") for name in ("region", "store")}
    compiled = CompiledRules(pa.array(texts, pa.string()), features)
    of_words = 10_000 * (5 + 64 + 16)
    assert compiled.nbytes - of_words < ads * (2 * 4 + 10 / 8 + 4 * 1 / 8 + 1)
