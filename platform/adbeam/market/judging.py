"""How well a reward model orders what the simulated market's truth knows: truth AUC, in all and by scene.

Shapes: R requests, n ads of one request.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adbeam.logs.requests import Request
from adbeam.market.feed import Audience
from adbeam.market.log import ad_id
from adbeam.market.truth.auc import truth_auc, truth_auc_by
from adbeam.market.truth.scenes import SCENE_NAMES
from adbeam.market.world import Requests, World
from adbeam.rewards.features import Past
from adbeam.rewards.scoring import Question, RewardModel

PER_REQUEST = 16
"""Random live ads that each request is judged with; those that its user may not be shown are left out."""
PART = 64


def reward_truth_auc(
    world: World, reward: RewardModel, audience: Audience, asked: Sequence[Requests]
) -> dict[str, float]:
    """{"all": AUC, scene: AUC}: the predicted rate of conversions of a showing, against the true one."""
    rng = np.random.default_rng((world.seed, 16))
    parts = [
        _judged(world, reward, audience, requests.part(start, start + PART), rng)
        for requests in asked
        for start in range(0, len(requests), PART)
    ]
    rate_N, true_N, scene_N = (np.concatenate(column) for column in zip(*parts, strict=True))
    return {"all": truth_auc(rate_N, true_N), **truth_auc_by(rate_N, true_N, np.array(SCENE_NAMES)[scene_N])}


def _judged(
    world: World, reward: RewardModel, audience: Audience, requests: Requests, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(predicted rates, true rates, scenes) of pairs of requests and ads."""
    live = np.flatnonzero(world.live(requests.day))
    ad_Rn = live[rng.integers(len(live), size=(len(requests), PER_REQUEST))]
    row_N = reward.items.rows([ad_id(number) for number in range(world.config.ads)])
    questions = [_question(audience.request(requests, r), reward, row_N[ad_Rn[r]]) for r in range(len(requests))]
    money_Rn = np.stack(reward.judge(questions))
    price_Rn = reward.items.price_N[row_N[ad_Rn]]
    click_Rn = world.click_probability(requests.user_R, ad_Rn, requests.day, requests.scene_R)
    true_Rn = click_Rn * world.conversion_probability(requests.user_R, ad_Rn)
    counted_Rn = world.legal(requests.user_R, ad_Rn)
    scene_Rn = np.broadcast_to(requests.scene_R[:, None], ad_Rn.shape)
    return (money_Rn / price_Rn)[counted_Rn], true_Rn[counted_Rn], scene_Rn[counted_Rn]


def _question(request: Request, reward: RewardModel, row_n: np.ndarray) -> Question:
    sequence = request.sequence
    past = Past.of(sequence, reward.items.rows(sequence.item_H)).before(request.now_ms)
    return Question(past, request.now_ms, request.scene, sequence.user_id, row_n, request.told)
