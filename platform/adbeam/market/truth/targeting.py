"""Whom the ads of a simulated market are for: age bands and regions, as rules of the platform and as masks.

Shapes: N ads, A age bands, G regions, R requests, n ads of one request.
"""

from __future__ import annotations

import json

import numpy as np

from adbeam.market.truth.users import AGE_BANDS, REGIONS, Users

FOR_EVERYBODY = 0.2
"""Share of ads without rules; with it about 40 % of ads may be shown to a user."""
IN_RULE = 0.5
"""How likely an age band, or a region, is in the rules of an ad."""


class Audiences:
    """Which age bands and regions each ad allows."""

    def __init__(self, ads: int, seed: int) -> None:
        rng = np.random.default_rng((seed, 13))
        self._everybody_N = rng.random(ads) < FOR_EVERYBODY
        self._age_NA = _some(rng, ads, len(AGE_BANDS)) | self._everybody_N[:, None]
        self._region_NG = _some(rng, ads, len(REGIONS)) | self._everybody_N[:, None]

    def allow(self, users: Users, user_R: np.ndarray, ad_Rn: np.ndarray) -> np.ndarray:
        """bool [R, n], whether users may be shown ads."""
        allowed_Rn: np.ndarray = (
            self._age_NA[ad_Rn, users.age_U[user_R][:, None]] & self._region_NG[ad_Rn, users.region_U[user_R][:, None]]
        )
        return allowed_Rn

    def allowed_ads(self, users: Users, user_R: np.ndarray) -> np.ndarray:
        """bool [R, N], of all ads."""
        allowed_NR: np.ndarray = self._age_NA[:, users.age_U[user_R]] & self._region_NG[:, users.region_U[user_R]]
        return allowed_NR.T

    def rules(self) -> list[str | None]:
        """The rules of each ad as the catalogue's column `targeting` holds them; None is everybody."""
        return [
            None if everybody else _rule(self._age_NA[ad], self._region_NG[ad])
            for ad, everybody in enumerate(self._everybody_N.tolist())
        ]


def _some(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """bool [rows, columns], of each row at least one and about IN_RULE."""
    chosen = rng.random((rows, columns)) < IN_RULE
    chosen[np.arange(rows), rng.integers(columns, size=rows)] = True
    return chosen


def _rule(age_A: np.ndarray, region_G: np.ndarray) -> str:
    told = {
        "age_band": {"in": [AGE_BANDS[number] for number in np.flatnonzero(age_A)]},
        "region": {"in": [REGIONS[number] for number in np.flatnonzero(region_G)]},
    }
    return json.dumps(told)
