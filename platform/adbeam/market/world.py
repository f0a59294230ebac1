"""The truth of the simulated marketplace: who likes what, what ads bid, and how all of it drifts with time.

    logit pCTR = a + taste_scale * <taste_u(day), interest_ad> + quality_ad + season_category(day)
    logit pCVR = b + intent_scale * <intent_u, interest_ad> + appeal_ad
    eCPM       = 1000 * pCTR * pCVR * bid_ad,       bid per conversion, paid when one comes

Tastes turn slowly between two directions, categories have seasons of their own, ads are born and end: functions of the
day alone, so that any day can be asked for at once. Settings may add organic items, scenes with clicks and tastes of
their own, segments of users and targeting (market.truth); without them the same seed is the same market as before they
were there. Numpy only.

Shapes: U users, N ads, K interests, R requests, n ads of one request, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from adbeam.market.calibration import AGGREGATES
from adbeam.market.config import MarketConfig
from adbeam.market.truth.organic import Organic, OrganicEvents
from adbeam.market.truth.scenes import SCENE_NAMES, Scenes
from adbeam.market.truth.targeting import Audiences
from adbeam.market.truth.users import draw_users, with_segments
from adbeam.market.truth.vectors import unit
from adbeam.records import DAY_MS, HOUR_MS
from adbeam.rewards.calibration import logit, sigmoid

START_MS = 1_700_006_400_000
"""A midnight, UTC: day 0."""
PER_MILLE = 1000.0
SCENES = SCENE_NAMES[:2]
"""Those of a market whose scenes are alike."""
NOTHING = -1
"""In a list of shown ads: an empty place."""
CALIBRATION_REQUESTS = 4000
_YOUNG = ("organic_items", "organic_per_request", "scenes", "scene_rotation", "segments", "segment_taste", "targeting")
"""Settings that a description names only where they are not the defaults, as before they were there."""


@dataclass(frozen=True)
class Requests:
    """Requests of one day in time order."""

    day: int
    user_R: np.ndarray
    time_R: np.ndarray
    """int64, milliseconds since 1970, UTC."""
    scene_R: np.ndarray
    """int, index into SCENE_NAMES."""

    def __len__(self) -> int:
        return len(self.user_R)

    def part(self, start: int, end: int) -> Requests:
        """Some of them."""
        return Requests(self.day, self.user_R[start:end], self.time_R[start:end], self.scene_R[start:end])


class World:
    """One simulated marketplace; the same settings and seed give the same one."""

    def __init__(self, config: MarketConfig, seed: int = 0) -> None:
        self.config, self.seed = config, seed
        rng = np.random.default_rng((seed, 1))
        K, N, U = config.interests, config.ads, config.users
        centre_CK = unit(rng.normal(size=(config.categories, K)))
        self.category_N = rng.integers(config.categories, size=N)
        self.brand_N = rng.integers(config.brands, size=N)
        self.advertiser_N = rng.integers(config.advertisers, size=N)
        brand_BK = rng.normal(size=(config.brands, K))
        self.interest_NK = unit(
            centre_CK[self.category_N] + 0.35 * unit(brand_BK)[self.brand_N] + 0.35 * unit(rng.normal(size=(N, K)))
        )
        self.quality_N = rng.normal(scale=0.5, size=N)
        self.appeal_N = rng.normal(scale=0.5, size=N)
        self.bid_N = np.round(np.exp(rng.normal(AGGREGATES.log_price_mean, AGGREGATES.log_price_std, size=N)), 2) + 0.01
        self.birth_N, self.end_N = self._lives(rng)
        # Two tastes a user, each near one or two categories: what they turn between.
        liked = [unit(centre_CK[rng.integers(config.categories, size=(U, 2))].sum(1)) for _ in range(2)]
        own_2UK = np.stack([unit(part + 0.4 * unit(rng.normal(size=(U, K)))) for part in liked])
        self.users = draw_users(U, config.segments, seed)
        self._taste_2UK = with_segments(own_2UK, self.users, config.segments, config.segment_taste, centre_CK, seed)
        self.intent_UK = unit(self._taste_2UK[0] + rng.normal(scale=0.3, size=(U, K)))
        self.activity_U = rng.gamma(1.5, size=U)
        self._phase_C = rng.uniform(0, 2 * np.pi, size=config.categories)
        self._period_C = rng.uniform(14, 56, size=config.categories)
        self.scenes = Scenes(K, config.scene_rotation, seed) if config.scenes > len(SCENES) else None
        self.audiences = Audiences(N, seed) if config.targeting else None
        self.organic = Organic(config.organic_items, centre_CK, seed) if config.organic_items else None
        self.click_bias = self.conversion_bias = 0.0
        self._calibrate()
        self.budget_N = self._budgets()

    def _lives(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        config = self.config
        cold = rng.random(config.ads) < config.new_ads_share
        late, early = rng.uniform(config.days / 2, 2 * config.days, config.ads), rng.uniform(-30, 0, config.ads)
        birth = np.where(cold, late, early)
        return birth, birth + np.maximum(rng.exponential(config.life_days, config.ads), 7.0) + np.where(cold, 0, 30)

    def live(self, day: float) -> np.ndarray:
        """bool [N], which ads may be shown on a day. A quarter of all ads never end, so that none is ever left."""
        forever = np.arange(self.config.ads) % 4 == 0
        live_N: np.ndarray = (self.birth_N <= day) & ((day < self.end_N) | forever)
        return live_N

    def legal(self, user_R: np.ndarray, ad_Rn: np.ndarray) -> np.ndarray:
        """bool [R, n], whether the rules of ads allow them to be shown to users."""
        if self.audiences is None:
            return np.ones(ad_Rn.shape, dtype=bool)
        return self.audiences.allow(self.users, user_R, ad_Rn)

    def taste(self, user_R: np.ndarray, day: float, scene_R: np.ndarray | None = None) -> np.ndarray:
        """float [R, K] of unit length; in scenes with a taste of their own that of the scene, where it is given."""
        angle = np.pi / 2 * np.clip(day / self.config.drift_period_days, 0, None)
        shared_RK = unit(np.cos(angle) * self._taste_2UK[0, user_R] + np.sin(angle) * self._taste_2UK[1, user_R])
        return shared_RK if self.scenes is None or scene_R is None else self.scenes.taste(shared_RK, scene_R)

    def click_probability(
        self, user_R: np.ndarray, ad_Rn: np.ndarray, day: float, scene_R: np.ndarray | None = None
    ) -> np.ndarray:
        """float [R, n], of an ad that is looked at; without `scene_R` in a scene that has nothing of its own."""
        match_Rn = np.einsum("rk,rnk->rn", self.taste(user_R, day, scene_R), self.interest_NK[ad_Rn])
        season_C = self.config.season_scale * np.sin(2 * np.pi * day / self._period_C + self._phase_C)
        rest_N = self.quality_N + season_C[self.category_N]
        logit_Rn = self.click_bias + self.config.taste_scale * match_Rn + rest_N[ad_Rn]
        if self.scenes is not None and scene_R is not None:
            logit_Rn = logit_Rn + self.scenes.bias_S[scene_R][:, None]
        return sigmoid(logit_Rn)

    def conversion_probability(self, user_R: np.ndarray, ad_Rn: np.ndarray) -> np.ndarray:
        """float [R, n], after a click."""
        match_Rn = np.einsum("rk,rnk->rn", self.intent_UK[user_R], self.interest_NK[ad_Rn])
        return sigmoid(self.conversion_bias + self.config.intent_scale * match_Rn + self.appeal_N[ad_Rn])

    def ecpm(self, user_R: np.ndarray, ad_Rn: np.ndarray, day: float, scene_R: np.ndarray | None = None) -> np.ndarray:
        """float [R, n]: money of a thousand looks, the truth."""
        both = self.click_probability(user_R, ad_Rn, day, scene_R) * self.conversion_probability(user_R, ad_Rn)
        ecpm_Rn: np.ndarray = PER_MILLE * both * self.bid_N[ad_Rn]
        return ecpm_Rn

    def requests(self, day: int, count: int | None = None) -> Requests:
        """The requests of a day, as many as its users make (Poisson) or `count`."""
        rng = np.random.default_rng((self.seed, 2, day))
        if count is None:
            count = int(rng.poisson(self.config.users * self.config.requests_per_user_day))
        share_U = self.activity_U / self.activity_U.sum()
        user_R = rng.choice(self.config.users, size=count, p=share_U)
        hour_R = rng.choice(24, size=count, p=_hours())
        time_R = START_MS + day * DAY_MS + hour_R * HOUR_MS + rng.integers(HOUR_MS, size=count)
        order = np.argsort(time_R, kind="stable")
        scene_R = rng.integers(len(SCENES), size=count) if self.scenes is None else self.scenes.draw(rng, count)
        return Requests(day, user_R[order], time_R[order], scene_R)

    def organic_events(self, requests: Requests) -> OrganicEvents | None:
        """What the users of a day's requests look at outside of ads before them; None in a market of ads alone."""
        if self.organic is None:
            return None
        rng = np.random.default_rng((self.seed, 15, requests.day))
        taste_RK = self.taste(requests.user_R, requests.day)
        return self.organic.draw(
            rng, taste_RK, requests.time_R, self.config.taste_scale, self.config.organic_per_request
        )

    def logging_choice(self, requests: Requests) -> np.ndarray:
        """int [R, slots], what the logging policy shows: of some random live ads those of best eCPM, with noise.

        NOTHING where too few of them may be shown to the user.
        """
        config, rng = self.config, np.random.default_rng((self.seed, 3, requests.day))
        live = np.flatnonzero(self.live(requests.day))
        pool_Rm = live[rng.integers(len(live), size=(len(requests), config.candidates))]
        guess_Rm = np.log(self.ecpm(requests.user_R, pool_Rm, requests.day, requests.scene_R))
        guess_Rm += rng.normal(scale=config.logging_noise, size=guess_Rm.shape)
        # An ad drawn twice is shown once.
        sorted_Rm = np.sort(pool_Rm, axis=1)
        order_Rm = np.argsort(pool_Rm, axis=1, kind="stable")
        again_Rm = np.zeros_like(pool_Rm, dtype=bool)
        repeated = np.concatenate([np.zeros((len(pool_Rm), 1), bool), sorted_Rm[:, 1:] == sorted_Rm[:, :-1]], axis=1)
        np.put_along_axis(again_Rm, order_Rm, repeated, axis=1)
        guess_Rm[again_Rm] = -np.inf
        if self.audiences is not None:
            legal_Rm = self.legal(requests.user_R, pool_Rm) & ~again_Rm
            guess_Rm[~legal_Rm] = -np.inf
            pool_Rm = np.where(legal_Rm, pool_Rm, NOTHING)
        best = np.argsort(-guess_Rm, axis=1, kind="stable")[:, : config.slots]
        return np.take_along_axis(pool_Rm, best, axis=1)

    def _calibrate(self) -> None:
        """Shift both logits until the logging policy's mean rates are those wanted."""
        config = self.config
        requests = self.requests(config.days // 2, CALIBRATION_REQUESTS)
        for _ in range(6):
            ads = self.logging_choice(requests)
            click = self.click_probability(requests.user_R, ads, requests.day, requests.scene_R)
            mean = click.mean()
            if (shown := ads >= 0).sum() < shown.size:
                click, mean = np.where(shown, click, 0.0), click[shown].mean()
            rate = float(np.average(self.conversion_probability(requests.user_R, ads), weights=click))
            self.click_bias += float(logit(np.array(config.click_rate)) - logit(mean))
            self.conversion_bias += float(logit(np.array(config.conversion_rate)) - logit(np.array(rate)))

    def _budgets(self) -> np.ndarray:
        """Daily budget [N] in money; infinite without a limit."""
        limit = self.config.budget_impressions
        if limit is None:
            return np.full(self.config.ads, np.inf)
        mean_payment = self.config.click_rate * self.config.conversion_rate * self.bid_N
        rng = np.random.default_rng((self.seed, 4))
        return limit * mean_payment * rng.lognormal(0.0, 0.5, self.config.ads)

    def describe(self) -> dict[str, Any]:
        """What a report says of the market."""
        settings = self.config.model_dump()
        young = {name: settings.pop(name) for name in _YOUNG}
        fields = type(self.config).model_fields
        added = {name: value for name, value in young.items() if value != fields[name].default}
        return {"simulated": True, "seed": self.seed, **settings, **added}


def _hours() -> np.ndarray:
    share: np.ndarray = np.array(AGGREGATES.traffic_by_hour)
    share = share / share.sum()
    return share
