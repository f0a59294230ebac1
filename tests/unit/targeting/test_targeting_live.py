"""Ads whose rules change while requests are answered: the mask is that of the rules in force, at every moment."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.support.targeting.random_rules import FEATURES, NOW_MS, random_text, random_unread

from adbeam.targeting.compiled.reading import UndeclaredFeatures
from adbeam.targeting.live import NEVER, TAIL, LiveTargeting
from adbeam.targeting.rules import stored_rules
from adbeam.targeting.told import Told

TOLD = Told((("country", "de"),), "home", NOW_MS)


def _rules(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)


def _allowed(live: LiveTargeting, told: Told, rows: int) -> list[bool]:
    allow_R = live.allow(told, rows)
    return [True] * rows if allow_R is None else allow_R.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_is_that_of_the_rules_in_force_while_ads_change(seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts: list[str | None] = [random_text(rng) if seed else None for _ in range(150)]
    live = LiveTargeting(pa.chunked_array([pa.array(texts, pa.string())]), FEATURES, len(texts))
    for _ in range(6 * TAIL):
        text, row = random_text(rng), int(rng.integers(0, len(texts)))
        if rng.random() < 0.4:
            row = len(texts)
            live.put(row, _rules(text))
            texts.append(text)
        else:
            live.put(row, _rules(text))
            texts[row] = text
        if rng.random() < 0.1:
            told = random_unread(rng)
            wanted = [text is None or stored_rules(text).hold(told) for text in texts]
            assert _allowed(live, told, len(texts)) == wanted
            assert [live.text(row) for row in range(len(texts))] == texts


def test_while_no_ad_has_rules_there_is_no_mask() -> None:
    live = LiveTargeting(None, {}, 10)
    live.put(10, None)
    live.put(3, {})
    assert live.allow(TOLD, 11) is None
    live.put(11, {"scenes": ["search"]})
    assert _allowed(live, TOLD, 12) == [True] * 11 + [False]


def test_a_row_that_does_not_exist_yet_is_not_named() -> None:
    live = LiveTargeting(None, FEATURES, 2)
    for row in range(2, 2 + TAIL):
        live.put(row, {"country": {"in": ["fr"]}})
    live.put(2 + TAIL, {"country": {"in": ["fr"]}})
    assert _allowed(live, TOLD, 4) == [True, True, False, False]


def test_rules_that_are_not_understood_here_are_for_nobody() -> None:
    live = LiveTargeting(None, {}, 1)
    live.put(0, {"country": {"in": ["de"]}})
    assert _allowed(live, TOLD, 1) == [False]
    assert live.text(0) == NEVER
    assert not stored_rules(NEVER).hold(TOLD)


def test_few_segments_are_held_however_many_ads_change() -> None:
    live = LiveTargeting(None, FEATURES, 0)
    for row in range(40 * TAIL):
        live.put(row, {"store": {"in": [str(row)]}})
    assert len(live._put.segments) <= 7
    assert _allowed(live, Told((("store", "17"),), "home", NOW_MS), 40 * TAIL).count(True) == 1


def test_a_base_over_other_features_is_refused() -> None:
    with pytest.raises(UndeclaredFeatures, match="country"):
        LiveTargeting(pa.chunked_array([pa.array(['{"country":{"in":["de"]}}'])]), {}, 1)
