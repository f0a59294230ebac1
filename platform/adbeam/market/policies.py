"""`adbeam market play`: what a bundle and its baselines earn on the simulated market, each with budgets of its own.

`best` and `random` are the bounds: the truth's own choice, which nobody can know, and live ads drawn at random.

Shapes: R requests, n shown ads, N ads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adbeam.bundle import Bundle
from adbeam.decoding.config import OrderBy
from adbeam.errors import UserError
from adbeam.evaluation.evaluate import popularity_before
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import Request, UserSequence, read_sequences
from adbeam.market.cascade import Cascade, click_pairs, train_two_tower
from adbeam.market.feed import Audience, allowed_ads, audience_of, codes_of_users, live_ads, shown_ads
from adbeam.market.judging import reward_truth_auc
from adbeam.market.log import ad_id, catalogue
from adbeam.market.play import NOTHING, Market
from adbeam.market.world import Requests, World
from adbeam.rewards.scoring import RewardModel
from adbeam.workdir import WorkDir

Policy = Callable[[Market, Requests], np.ndarray]
"""int [R, n]: the ads that a policy shows, by number, NOTHING where it has fewer."""
PART = 64
"""Requests for which all live ads are weighed at once: bounds the memory of `best`."""


def play(
    world: World,
    work_dir: Path,
    bundle: Bundle,
    *,
    days: int,
    requests: int,
    order_by: OrderBy = "log_probability",
    cascade: bool = False,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Expected revenue a thousand requests by policy, over the `days` after the log with `requests` each. What is known
    of the users ends with the log, for all policies alike. With `cascade` also the reward model's truth AUC by scene.

    Raises UserError where the bundle is of another catalogue, or `cascade` is asked for without a reward model.
    """
    prepared = PreparedLog.open(WorkDir(work_dir).prepared, verify=False)
    sequences = [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]
    audience = audience_of(sequences, codes_of_users(world, prepared.told()))
    policies: dict[str, Policy] = {
        "bundle": _of_bundle(bundle, order_by, prepared, audience, world),
        "popularity": _of_popularity(prepared, world),
        "logging policy": lambda market, asked: world.logging_choice(asked),
        "random": _random,
        "best": _best,
    }
    if cascade:
        tell("training the cascade's two towers")
        policies["cascade"] = _of_cascade(work_dir, prepared, sequences, audience, world)
    asked = [world.requests(world.config.days + day, requests) for day in range(days)]
    judged: dict[str, Any] = {}
    if cascade:
        tell("holding the reward model against the truth")
        judged = {"reward_truth_auc": reward_truth_auc(world, _reward_model(work_dir, prepared), audience, asked)}
    return {
        "simulated": True,
        "bundle": bundle.version,
        "order_by": order_by,
        "days": days,
        "requests": sum(len(part) for part in asked),
        "revenue_per_1000_requests": _earned(world, policies, asked, tell),
        **judged,
    }


def _earned(
    world: World, policies: Mapping[str, Policy], asked: list[Requests], tell: Callable[[str], None]
) -> dict[str, float]:
    """Money a thousand requests by policy, most first."""
    earned = {}
    for name, policy in policies.items():
        tell(f"playing {name}")
        choosing, paying = Market(world), Market(world)
        money = [paying.expected_revenue(requests, policy(choosing, requests)) for requests in asked]
        earned[name] = 1000 * float(np.concatenate(money).mean())
    return dict(sorted(earned.items(), key=lambda item: -item[1]))


def _of_bundle(bundle: Bundle, order_by: OrderBy, prepared: PreparedLog, audience: Audience, world: World) -> Policy:
    recommender = Recommender.of(bundle, order_by, include_paused=True, trends=prepared.trends())
    ads = recommender.catalogue.item_ids
    if not set(ads) <= set(catalogue(world)["item_id"].to_pylist()):
        raise UserError("serves ads that are not of this market", field="--bundle", value=bundle.version,
                        remedy="export a bundle from the market's own work_dir")  # fmt: skip
    widths, slots = tuple(bundle.ladder_quality["full_widths"]), world.config.slots

    def policy(market: Market, requests: Requests) -> np.ndarray:
        live = live_ads(market, requests, ads)
        return shown_ads(
            lambda part: recommender.rank(part, widths, slots, live=allowed_ads(world, part, ads, live)),
            audience,
            requests,
            slots,
        )

    return policy


def _of_cascade(
    work_dir: Path, prepared: PreparedLog, sequences: list[UserSequence], audience: Audience, world: World
) -> Policy:
    reward = _reward_model(work_dir, prepared)
    tower = train_two_tower(click_pairs(sequences, reward), reward, world.seed)
    ranked, slots = Cascade(tower, reward, prepared.catalogue()), world.config.slots

    def policy(market: Market, requests: Requests) -> np.ndarray:
        live = live_ads(market, requests, ranked.ads)

        def rank(part: list[Request]) -> list[list[str]]:
            return ranked.rank(part, slots, np.stack(allowed_ads(world, part, ranked.ads, live)))

        return shown_ads(rank, audience, requests, slots)

    return policy


def _reward_model(work_dir: Path, prepared: PreparedLog) -> RewardModel:
    folder = WorkDir(work_dir).reward
    if not folder.is_dir():
        raise UserError("the cascade ranks by a reward model", field="--cascade",
                        remedy=f"make one: adbeam reward -c {work_dir}/jobs.yaml")  # fmt: skip
    return RewardModel.open(folder, prepared.catalogue())


def _of_popularity(prepared: PreparedLog, world: World) -> Policy:
    """To everybody the live ads that converted most in the log before its test days."""
    counts = popularity_before(prepared, "test").counts
    order_N = np.argsort([-counts.get(ad_id(number), 0) for number in range(world.config.ads)], kind="stable")

    def policy(market: Market, requests: Requests) -> np.ndarray:
        live_N = market.affordable(requests.day)
        live = order_N[live_N[order_N]]
        if world.audiences is None:
            first = live[: world.config.slots]
            return np.broadcast_to(first, (len(requests), len(first)))
        return _first_allowed(world, requests, np.broadcast_to(live, (len(requests), len(live))))

    return policy


def _random(market: Market, requests: Requests) -> np.ndarray:
    live, world = np.flatnonzero(market.affordable(requests.day)), market.world
    rng = np.random.default_rng((world.seed, 8, requests.day))
    if world.audiences is None:
        return live[rng.integers(len(live), size=(len(requests), world.config.slots))]
    drawn = rng.permuted(np.broadcast_to(live, (len(requests), len(live))), axis=1)
    return _first_allowed(world, requests, drawn)


def _best(market: Market, requests: Requests) -> np.ndarray:
    live, world = np.flatnonzero(market.affordable(requests.day)), market.world
    parts = []
    for start in range(0, len(requests), PART):
        user_R = requests.user_R[start : start + PART]
        part = requests.part(start, start + PART)
        ecpm_RN = world.ecpm(user_R, np.broadcast_to(live, (len(user_R), len(live))), requests.day, part.scene_R)
        order_RN = live[np.argsort(-ecpm_RN, axis=1)]
        parts.append(
            order_RN[:, : world.config.slots] if world.audiences is None else _first_allowed(world, part, order_RN)
        )
    return np.concatenate(parts)


def _first_allowed(world: World, requests: Requests, ad_RN: np.ndarray) -> np.ndarray:
    """int [R, slots]: of each request's ads in their order the first that may be shown to the user."""
    legal_RN = world.legal(requests.user_R, ad_RN)
    place = np.argsort(~legal_RN, axis=1, kind="stable")[:, : world.config.slots]
    chosen: np.ndarray = np.where(
        np.take_along_axis(legal_RN, place, axis=1), np.take_along_axis(ad_RN, place, axis=1), NOTHING
    )
    return chosen
