"""Who the users of a simulated market are: segment, age band and region, and how far these say what they like.

Shapes: U users, G segments, A age bands, C categories, K interests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adbeam.market.truth.vectors import unit

AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
REGIONS = tuple(f"region{number}" for number in range(12))
AGE_TASTE = 0.5
"""How much an age band says of a taste beside what a segment says."""


@dataclass(frozen=True)
class Users:
    """Numbers of what each user is, int [U]."""

    segment_U: np.ndarray
    age_U: np.ndarray
    region_U: np.ndarray

    def columns(self, user_N: np.ndarray) -> dict[str, list[str]]:
        """The features of some users in words."""
        return {
            "segment": [f"segment{number}" for number in self.segment_U[user_N].tolist()],
            "age_band": [AGE_BANDS[number] for number in self.age_U[user_N].tolist()],
            "region": [REGIONS[number] for number in self.region_U[user_N].tolist()],
        }


def draw_users(count: int, segments: int, seed: int) -> Users:
    """Users whose age goes with their segment and whose regions are of unlike size; without segments all are of one."""
    rng = np.random.default_rng((seed, 10))
    segment_U = rng.integers(max(segments, 1), size=count)
    until_GA = np.cumsum(rng.dirichlet(np.ones(len(AGE_BANDS)), size=max(segments, 1)), axis=1)
    age_U = (rng.random(count)[:, None] > until_GA[segment_U]).sum(1).clip(max=len(AGE_BANDS) - 1)
    region_U = rng.choice(len(REGIONS), size=count, p=rng.dirichlet(3 * np.ones(len(REGIONS))))
    return Users(segment_U, age_U, region_U)


def with_segments(
    own_2UK: np.ndarray, users: Users, segments: int, share: float, centre_CK: np.ndarray, seed: int
) -> np.ndarray:
    """float [2, U, K] of unit length: tastes of which `share` is that of the segment and age band, before and after the
    turn, each near two categories; a user's own without segments."""
    if not segments:
        return own_2UK
    rng = np.random.default_rng((seed, 11))
    segment_2GK, age_2AK = (
        unit(centre_CK[rng.integers(len(centre_CK), size=(2, count, 2))].sum(2)) for count in (segments, len(AGE_BANDS))
    )
    shared_2UK = unit(segment_2GK[:, users.segment_U] + AGE_TASTE * age_2AK[:, users.age_U])
    return unit((1 - share) * own_2UK + share * shared_2UK)
