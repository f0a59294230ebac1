"""A market with organic items, six scenes, segments and targeting is learnt from and played like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.support.market_samples import MARKET, WIDTHS, feed_of, make_market, market_config

from adbeam.bundle import load_bundle
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences
from adbeam.market.feed import audience_of, codes_of_users
from adbeam.market.judging import reward_truth_auc
from adbeam.market.policies import play
from adbeam.market.truth.scenes import SCENE_NAMES
from adbeam.market.workdir import prepare_market
from adbeam.market.world import World
from adbeam.records import ITEM_KINDS
from adbeam.rewards.scoring import Question, RewardModel
from adbeam.workdir import WorkDir

WIDE = MARKET.model_copy(
    update={"organic_items": 40, "organic_per_request": 1.0, "scenes": 6, "segments": 4, "targeting": True}
)


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wide")


@pytest.fixture(scope="module")
def world(work_dir: Path) -> World:
    return make_market(work_dir, market_config(work_dir, training={"max_steps": 15}), market=WIDE)


def test_every_policy_earns_and_the_reward_model_is_held_against_the_truth(world: World, work_dir: Path) -> None:
    told: list[str] = []
    bundle = load_bundle(WorkDir(work_dir).bundles)
    played = play(world, work_dir, bundle, days=1, requests=120, cascade=True, tell=told.append)
    earned = played["revenue_per_1000_requests"]
    assert next(iter(earned)) == "best" and earned["best"] > earned["logging policy"] > earned["random"] > 0
    assert all(0 < earned[name] < earned["best"] for name in ("bundle", "popularity", "cascade"))
    auc = played["reward_truth_auc"]
    assert {"all", *SCENE_NAMES[:3]} <= set(auc) <= {"all", *SCENE_NAMES} and 0.5 < auc["all"] < 1
    assert "holding the reward model against the truth" in told


def test_a_played_day_shows_only_what_rules_allow_and_logs_organic_events(world: World, work_dir: Path) -> None:
    feed = feed_of(world, work_dir)
    bundle = load_bundle(WorkDir(work_dir).bundles)
    recommender = Recommender.of(bundle, order_by="expected_value", include_paused=True)
    requests = world.requests(WIDE.days, 200)
    shown = feed.answer(recommender, requests, WIDTHS, 4)
    there = shown >= 0
    assert world.legal(requests.user_R, np.where(there, shown, 0))[there].all() and there.mean() > 0.9
    assert feed.play_day(recommender, requests, WIDTHS, 4, bundle.version) > 0
    events = pq.read_table(sorted(feed.events.glob("*.parquet"))[-1]).to_pylist()
    assert {row["item_kind"] for row in events} == {"ad", "organic"}
    assert {row["scene"] for row in events} <= set(SCENE_NAMES)
    after = feed.audience.request(world.requests(WIDE.days + 1, 200), 0).sequence
    kinds = {
        (item.startswith("organic"), ITEM_KINDS[kind]) for item, kind in zip(after.item_H, after.kind_H, strict=True)
    }
    assert kinds <= {(True, "organic"), (False, "ad")}


def test_models_of_a_market_are_told_of_the_users_who_ask(world: World, work_dir: Path) -> None:
    prepared = PreparedLog.open(WorkDir(work_dir).prepared)
    bundle, encoder = load_bundle(WorkDir(work_dir).bundles), prepared.told()
    assert encoder is not None and bundle.told == encoder and set(encoder.shapes) == {"age_band", "region", "segment"}
    reward = RewardModel.open(WorkDir(work_dir).reward, prepared.catalogue())
    assert len(reward.told) == 3
    audience, requests = feed_of(world, work_dir).audience, world.requests(WIDE.days, 50)
    for place, user in enumerate(requests.user_R.tolist()):
        words = world.users.columns(np.array([user]))
        codes = audience.request(requests, place).told
        said = {one.name: (one.words or ())[code - 2] for one, code in zip(encoder.features, codes, strict=True)}
        assert said == {name: words[name][0] for name in said}
    sequences = [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]
    of_log = {sequence.user_id: sequence.told_HF for sequence in sequences}
    codes_of = codes_of_users(world, encoder)
    for user, told_HF in of_log.items():
        assert told_HF is not None and np.array_equal(told_HF, np.tile(codes_of[user], (len(told_HF), 1)))


def test_a_market_may_keep_to_itself_what_users_are(tmp_path: Path) -> None:
    world = World(WIDE.model_copy(update={"users": 40, "days": 6}), seed=1)
    assert prepare_market(world, tmp_path, told=False).told() is None
    assert codes_of_users(world, None) == {}


def test_a_model_that_knows_the_truth_has_the_best_auc(world: World, work_dir: Path) -> None:
    prepared = PreparedLog.open(WorkDir(work_dir).prepared)
    sequences = [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]
    asked = [world.requests(WIDE.days, 200)]
    reward = RewardModel.open(WorkDir(work_dir).reward, prepared.catalogue())

    class Knowing(RewardModel):
        """Says the true eCPM, or its opposite."""

        sign = 1.0

        def judge(self, questions: list[Question]) -> list[np.ndarray]:  # type: ignore[override]
            user_R = np.array([int(str(question.user_id).removeprefix("user")) for question in questions])
            scene_R = np.array([SCENE_NAMES.index(question.scene) for question in questions])
            ad_Rn = np.array([
                [int(self.items.ids[row].removeprefix("ad")) for row in question.row_n] for question in questions
            ])  # fmt: skip
            return list(self.sign * world.ecpm(user_R, ad_Rn, WIDE.days, scene_R))

    found = []
    for sign in (1.0, -1.0):
        knowing = Knowing(**vars(reward))
        object.__setattr__(knowing, "sign", sign)
        found.append(reward_truth_auc(world, knowing, audience_of(sequences), asked))
    learnt = reward_truth_auc(world, reward, audience_of(sequences), asked)
    assert found[0]["all"] > learnt["all"] > 0.5 > found[1]["all"]
    assert found[0]["all"] + found[1]["all"] == pytest.approx(1.0)
