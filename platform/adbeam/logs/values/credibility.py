"""Empirical Bayes: how far a group's own count is believed against what its surroundings let expect. Numpy only.

Shapes: G groups (ads, scenes).
"""

from __future__ import annotations

import numpy as np


def credible_factors(done_G: np.ndarray, expected_G: np.ndarray, noise_G: np.ndarray) -> np.ndarray:
    """float64 [G]: by what the expected count of each group is multiplied to give its believed one.

    `noise_G` is the variance of a count over its expectation where all groups are alike: 1 - p of a rate p. Factors
    differ between groups with a variance t that the counts themselves tell (moments, Buhlmann and Straub 1970); a group
    keeps the share t e / (t e + noise) of what it deviates by: one of few impressions is as its surroundings, one of
    many as it was seen. 1 where nothing was expected, or where the groups differ no more than chance lets them.
    """
    factor_G = np.ones(len(expected_G))
    seen = expected_G > 0
    done, expected, noise = done_G[seen], expected_G[seen], noise_G[seen]
    room = expected.sum() - (expected**2).sum() / expected.sum() if len(expected) > 1 else 0.0
    if room <= 0:
        return factor_G
    deviation = done / expected - 1
    by_chance = noise.sum() * (len(noise) - 1) / len(noise)
    between = max(0.0, float((expected * deviation**2).sum() - by_chance) / room)
    if between > 0:
        factor_G[seen] += deviation * between * expected / (between * expected + noise)
    return factor_G


def rates_by_scene_and_ad(
    scene_C: np.ndarray, ad_C: np.ndarray, tried_C: np.ndarray, done_C: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """(rate of all, rate of each scene [S], factor of each ad [N]) from counts of C pairs of an ad and a scene.

    Scenes and ads are numbered from 0. The rate of an ad in a scene is the scene's times the ad's factor: scenes shrink
    to all, ads to what their scenes let expect of them.
    """
    whole = float(done_C.sum() / tried_C.sum()) if tried_C.sum() > 0 else 0.0
    tried_S = np.bincount(scene_C, weights=tried_C)
    noise_S = np.full(len(tried_S), max(1 - whole, 0.0))
    rate_S = whole * credible_factors(np.bincount(scene_C, weights=done_C), whole * tried_S, noise_S)
    expected_C = tried_C * rate_S[scene_C]
    expected_N = np.bincount(ad_C, weights=expected_C)
    noise_N = np.bincount(ad_C, weights=expected_C * np.maximum(1 - rate_S[scene_C], 0)) / np.where(
        expected_N > 0, expected_N, 1
    )
    return whole, rate_S, credible_factors(np.bincount(ad_C, weights=done_C), expected_N, noise_N)
