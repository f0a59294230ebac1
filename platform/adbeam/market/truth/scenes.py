"""Scenes of a simulated market: two alike, or six of unlike size, click rate and taste.

Shapes: S scenes, R requests, K interests.
"""

from __future__ import annotations

import numpy as np

from adbeam.market.truth.vectors import unit

SCENE_NAMES = ("feed", "story", "search", "video", "explore", "inbox")
SHARES = (0.60, 0.25, 0.08, 0.04, 0.02, 0.01)
OWN_TASTE = (0.0, 0.0, 0.25, 0.5, 0.75, 1.0)
"""How much of the setting `scene_rotation` a scene has: the two large ones share one taste, the smallest has its."""
BIAS_STD = 0.4


class Scenes:
    """Six scenes that differ: taste is (1 - rho) shared + rho turned by a rotation of the scene's own."""

    def __init__(self, interests: int, rotation: float, seed: int) -> None:
        rng = np.random.default_rng((seed, 12))
        self.rho_S = rotation * np.array(OWN_TASTE)
        self.bias_S = rng.normal(scale=BIAS_STD, size=len(SCENE_NAMES))
        self._turn_SKK = np.linalg.qr(rng.normal(size=(len(SCENE_NAMES), interests, interests)))[0]

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """int [count], by the scenes' shares of the traffic."""
        return rng.choice(len(SHARES), size=count, p=SHARES)

    def taste(self, taste_RK: np.ndarray, scene_R: np.ndarray) -> np.ndarray:
        """float [R, K] of unit length: what users like in the scenes of their requests."""
        turned_RK = np.einsum("rkj,rj->rk", self._turn_SKK[scene_R], taste_RK)
        rho_R1 = self.rho_S[scene_R][:, None]
        return unit((1 - rho_R1) * taste_RK + rho_R1 * turned_RK)
