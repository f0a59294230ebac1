"""What an order or a recall could earn at most on the markets of the ladder, and where its rows lose it.

Every line answers the same requests of the day after the log, and is revenue over the cascade of the same market:

* `exhaustive`: all live ads by the reward model, the most that learning from its lists can reach;
* `cascade_truth`: the towers' recall by the truth; `generated_reward`, `generated_truth`: the generator's;
* `random_reward`: as many live ads drawn at random, by the reward model;
* `base`, `base_by_bid`: the generator's by probability, and by probability times the ad's bid;
* `best`, `random`: the truth's own choice, and live ads in any order.

`recall_*` is the share of the money of the truth's best list whose ads are among those recalled. `exposure` tells by
decile of exposures in the log how much probability the generator gives the ads, beside what they have of the exposures
and of the clicks that the truth expects.

Shapes: R requests, m recalled ads, N live ads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adbeam.decoding.exhaustive import score_all
from adbeam.inference.recommender import BATCH, Recommender
from adbeam.logs.requests import Request
from adbeam.market.cascade import Cascade
from adbeam.market.feed import Audience, audience_of, live_ads, shown_ads
from adbeam.market.log import ad_id
from adbeam.market.play import NOTHING, Market
from adbeam.market.world import Requests, World
from adbeam.rewards.features import Past
from adbeam.rewards.scoring import Question, RewardModel
from benchmarks.ladder.market import Bench
from benchmarks.ladder.rows import FULL, named
from benchmarks.ladder.run import with_interval

BASE = named("ua_sid")
LINES = ("exhaustive", "cascade_truth", "generated_reward", "generated_truth", "random_reward", "base", "base_by_bid",
         "best", "random")  # fmt: skip
RECALLED = FULL[-1]
DECILES = 10
JUDGED = 200
"""Requests that the probabilities of all ads are asked of."""


def summed_up(markets: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`ceiling_<line>`, the mean lift over the cascade with its interval over markets, and the mean recalls."""
    figures: dict[str, float] = {}
    for line in LINES:
        lifts = np.array([found["revenue"][line] / found["revenue"]["cascade"] - 1 for found in markets])
        figures |= with_interval(f"ceiling_{line}", lifts)
    for name in markets[0]["recall"]:
        figures[f"recall_{name}"] = float(np.mean([found["recall"][name] for found in markets]))
    return figures


def ceilings(bench: Bench) -> dict[str, Any]:
    """{"revenue": money a request by line, "recall": shares, "exposure": a table} of one market."""
    world, sequences = bench.prepare(), bench.sequences()
    look = _Look(world, world.requests(bench.market.days, bench.requests), audience_of(sequences), bench.market.slots)
    cascade, generator = bench.cascade(sequences), bench.recommender(BASE, "log_probability")
    towers, ranked = look.recalled_by(cascade), look.generated_by(generator)
    every = np.broadcast_to(look.live, (len(look.requests), len(look.live)))
    draw = np.random.default_rng(bench.seed).permuted(every, axis=1)
    best = look.best(every, look.truth(every))
    judge = partial(look.judged_by, cascade.reward)
    lists = {
        "cascade": look.best(towers, judge(towers)),
        "exhaustive": look.best(every, judge(every)),
        "cascade_truth": look.best(towers, look.truth(towers)),
        "generated_reward": look.best(ranked, judge(ranked)),
        "generated_truth": look.best(ranked, look.truth(ranked)),
        "random_reward": look.best(draw[:, :RECALLED], judge(draw[:, :RECALLED])),
        "base": ranked[:, : look.slots],
        "base_by_bid": look.best(ranked, look.probability(generator, ranked) * world.bid_N[ranked]),
        "best": best,
        "random": draw[:, : look.slots],
    }
    return {
        "seed": bench.seed,
        "live_ads": len(look.live),
        "revenue": {name: look.revenue(shown) for name, shown in lists.items()},
        "recall": {name: look.recall(best, found) for name, found in (("towers", towers), ("generator", ranked))},
        "exposure": look.by_exposure(generator),
    }


class _Look:
    """One market's requests of the day after its log."""

    def __init__(self, world: World, requests: Requests, audience: Audience, slots: int) -> None:
        self.world, self.requests, self.audience, self.slots = world, requests, audience, slots
        self.live: NDArray[np.int64] = np.flatnonzero(world.live(requests.day))

    def revenue(self, ad_Rn: np.ndarray) -> float:
        """Expected money a request."""
        return float(Market(self.world).expected_revenue(self.requests, ad_Rn).mean())

    def best(self, ad_Rm: np.ndarray, worth_Rm: np.ndarray) -> np.ndarray:
        """[R, slots]: those worth most."""
        worth_Rm = np.where(ad_Rm == NOTHING, -np.inf, worth_Rm)
        place = np.argsort(-worth_Rm, axis=1, kind="stable")[:, : self.slots]
        return np.take_along_axis(ad_Rm, place, axis=1)

    def truth(self, ad_Rm: np.ndarray) -> np.ndarray:
        """True eCPM."""
        return self.world.ecpm(self.requests.user_R, ad_Rm, self.requests.day, self.requests.scene_R)

    def judged_by(self, reward: RewardModel, ad_Rm: np.ndarray) -> np.ndarray:
        """eCPM as the reward model sees it."""
        row_N = reward.items.rows([ad_id(number) for number in range(self.world.config.ads)])
        money = np.zeros(ad_Rm.shape)
        for place, ads in enumerate(ad_Rm):
            asked = self.audience.request(self.requests, place)
            sequence = asked.sequence
            past = Past.of(sequence, reward.items.rows(sequence.item_H)).before(asked.now_ms)
            question = Question(past, asked.now_ms, asked.scene, sequence.user_id, row_N[ads], asked.told)
            money[place] = reward.judge([question])[0]
        return money

    def recalled_by(self, cascade: Cascade) -> np.ndarray:
        """[R, m] by the towers."""
        live = live_ads(Market(self.world), self.requests, cascade.ads)

        def rank(asked: list[Request]) -> list[list[str]]:
            return [[cascade.ads[row] for row in question.row_n] for question in cascade.recall(asked, live)]

        return shown_ads(rank, self.audience, self.requests, RECALLED)

    def generated_by(self, generator: Recommender) -> np.ndarray:
        """[R, m] by the generator, the most probable first."""
        live = live_ads(Market(self.world), self.requests, generator.catalogue.item_ids)

        def rank(asked: list[Request]) -> list[list[str]]:
            return generator.rank(asked, FULL, RECALLED, live=[live] * len(asked))

        return shown_ads(rank, self.audience, self.requests, RECALLED)

    def probability(self, generator: Recommender, ad_Rm: np.ndarray, requests: int | None = None) -> np.ndarray:
        """[R, m]: p(SID) of ads, of the first `requests`; 0 where there is none."""
        sids = [generator.sid(ad_id(number)) for number in range(self.world.config.ads)]
        known = np.array([sid is not None for sid in sids])
        place_N = np.cumsum(known) - 1
        sids_nT = torch.tensor([sid for sid in sids if sid is not None])
        ad_Rm = ad_Rm[:requests]
        found = np.zeros(ad_Rm.shape)
        for start in range(0, len(ad_Rm), BATCH):
            part = slice(start, min(start + BATCH, len(ad_Rm)))
            asked = [self.audience.request(self.requests, place) for place in range(part.start, part.stop)]
            log_p = score_all(generator.model, generator.contexts(asked), sids_nT)[0].numpy()
            is_ad = (ad_Rm[part] != NOTHING) & known[ad_Rm[part]]
            found[part] = np.where(is_ad, np.exp(np.take_along_axis(log_p, place_N[ad_Rm[part]], axis=1)), 0.0)
        return found

    def recall(self, best_Rn: np.ndarray, recalled_Rm: np.ndarray) -> float:
        """The share of the best lists' money whose ads were recalled."""
        money = self.truth(best_Rn)
        is_found = (best_Rn[:, :, None] == recalled_Rm[:, None, :]).any(axis=2)
        return float((money * is_found).sum() / money.sum())

    def by_exposure(self, generator: Recommender) -> list[dict[str, float]]:
        """Live ads in tenths of the log's exposures, the least shown first: their share of the ads, of the exposures,
        of the generator's probability and of the clicks that showing every ad would bring."""
        days = map(self.world.requests, range(self.world.config.days))
        shown_by_day = [self.world.logging_choice(requests).ravel() for requests in days]
        shown_E = np.concatenate([ads[ads != NOTHING] for ads in shown_by_day])
        exposure_N = np.bincount(shown_E, minlength=self.world.config.ads)
        order = self.live[np.argsort(exposure_N[self.live], kind="stable")]
        every = np.broadcast_to(order, (min(JUDGED, len(self.requests)), len(order)))
        part = self.requests.part(0, len(every))
        probability = self.probability(generator, every, len(every)).mean(axis=0)
        click = self.world.click_probability(part.user_R, every, part.day, part.scene_R).mean(axis=0)
        shown = exposure_N[order]
        decile = np.minimum((np.cumsum(shown) - shown / 2) / max(shown.sum(), 1) * DECILES, DECILES - 1).astype(int)
        shares = {"ads": np.ones(len(order)), "exposures": shown, "probability": probability, "clicks": click}
        return [
            {name: float(values[decile == tenth].sum() / values.sum()) for name, values in shares.items()}
            for tenth in range(DECILES)
        ]
