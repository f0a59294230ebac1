"""A market with organic items, six scenes, segments and targeting: each has the effect that its setting says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from adbeam.logs.requests import read_sequences
from adbeam.market.config import MarketConfig
from adbeam.market.feed import allowed_ads, audience_of
from adbeam.market.log import ad_id, catalogue, users
from adbeam.market.play import NOTHING, Market
from adbeam.market.policies import _best, _random
from adbeam.market.simulate import open_market, simulate
from adbeam.market.truth.auc import truth_auc, truth_auc_by
from adbeam.market.truth.scenes import SCENE_NAMES, SHARES
from adbeam.market.world import World
from adbeam.targeting.rules import read_rules
from adbeam.targeting.told import Told

WIDE = MarketConfig(users=300, ads=200, days=12, categories=8, advertisers=20, brands=10, organic_items=60,
                    scenes=6, segments=8, targeting=True)  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return World(WIDE, seed=0)


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide") / "work"
    simulate(WIDE, folder, seed=0, size="tiny", codebooks=(8, 8, 16), tell=lambda text: None)
    return folder


def test_scenes_have_their_shares_click_rates_and_tastes(world: World) -> None:
    requests = world.requests(3, 40_000)
    share_S = np.bincount(requests.scene_R, minlength=6) / len(requests)
    assert share_S == pytest.approx(SHARES, abs=0.01)
    users_R = np.arange(200)
    shared = world.taste(users_R, 3)
    likeness_S = [(world.taste(users_R, 3, np.full(200, scene)) * shared).sum(1).mean() for scene in range(6)]
    assert likeness_S[:2] == pytest.approx([1.0, 1.0]) and all(np.diff(likeness_S[1:]) < 0)
    ads = world.logging_choice(requests)
    click = world.click_probability(requests.user_R, ads, 3, requests.scene_R)[:, 0]
    rate_S = [click[requests.scene_R == scene].mean() for scene in range(6)]
    assert max(rate_S) > 1.5 * min(rate_S)
    alike = World(WIDE.model_copy(update={"scene_rotation": 0.0}), seed=0)
    assert np.allclose(alike.taste(users_R, 3, np.full(200, 5)), alike.taste(users_R, 3))


def test_users_of_a_segment_like_the_same_and_the_table_says_who_they_are(world: World) -> None:
    taste = world.taste(np.arange(WIDE.users), 0)
    likeness = taste @ taste.T
    same = world.users.segment_U[:, None] == world.users.segment_U
    others = ~np.eye(WIDE.users, dtype=bool)
    assert likeness[same & others].mean() > likeness[~same].mean() + 0.2
    table = users(world)
    assert table.column_names == ["user_id", "segment", "age_band", "region"] and table.num_rows == WIDE.users
    assert len(pc.unique(table["segment"])) == 8 and table["segment"][7].as_py() == f"segment{world.users.segment_U[7]}"


def test_rules_in_the_catalogue_are_those_of_the_truth(world: World) -> None:
    rules = [read_rules(text or "{}", None) for text in catalogue(world)["targeting"].to_pylist()[: WIDE.ads]]
    told = world.users.columns(np.arange(40))
    legal = world.legal(np.arange(40), np.broadcast_to(np.arange(WIDE.ads), (40, WIDE.ads)))
    for user in range(40):
        context = (("age_band", told["age_band"][user]), ("region", told["region"][user]))
        assert [rule.hold(Told(context, "feed", 0)) for rule in rules] == legal[user].tolist()
    everybody = np.arange(WIDE.users)
    every_legal = world.legal(everybody, np.broadcast_to(np.arange(WIDE.ads), (WIDE.users, WIDE.ads)))
    assert every_legal.mean() == pytest.approx(0.4, abs=0.08)


def test_no_policy_shows_an_ad_to_whom_it_is_not_for_and_none_would_be_paid_for_it(world: World) -> None:
    requests = world.requests(5, 300)
    for ads in (world.logging_choice(requests), _best(Market(world), requests), _random(Market(world), requests)):
        shown = ads >= 0
        assert world.legal(requests.user_R, np.where(shown, ads, 0))[shown].all() and shown.mean() > 0.95
        assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in ads), "an ad is shown once"
    illegal = np.array(
        [np.flatnonzero(~world.legal(np.array([u]), np.arange(200)[None])[0])[:3] for u in requests.user_R]
    )
    assert not Market(world).expected_revenue(requests, illegal).any()
    outcome = Market(world).play(requests, np.concatenate([illegal, np.full((300, 1), NOTHING)], axis=1))
    assert not outcome.looked.any() and not outcome.paid.any()
    click = world.click_probability(requests.user_R, world.logging_choice(world.requests(6, 300)).clip(0), 6)
    assert 0.02 < click.mean() < 0.2


def test_organic_events_follow_the_taste_of_the_day(world: World) -> None:
    requests = world.requests(4, 2000)
    events, organic = world.organic_events(requests), world.organic
    assert events is not None and organic is not None
    assert len(events.place_E) == pytest.approx(2000 * WIDE.organic_per_request, rel=0.1)
    assert (events.time_E < requests.time_R[events.place_E]).all()
    liked = (world.taste(requests.user_R, 4)[events.place_E] * organic.interest_MK[events.item_E]).sum(1)
    later = (world.taste(requests.user_R, 90)[events.place_E] * organic.interest_MK[events.item_E]).sum(1)
    assert liked.mean() > 0.2 and liked.mean() > later.mean() + 0.05
    again = world.organic_events(world.requests(4, 2000))
    assert again is not None and np.array_equal(again.item_E, events.item_E)


def test_the_work_dir_holds_what_the_log_tells(work_dir: Path, world: World) -> None:
    account = json.loads((work_dir / "prepared" / "account.json").read_text())
    assert account["quarantined"] == 0 and account["catalogue"]["kept"] == WIDE.ads + WIDE.organic_items
    items = pq.read_table(work_dir / "prepared" / "catalogue.parquet")
    assert items["targeting"].null_count < items.num_rows / 2
    assert pq.read_table(work_dir / "tokens" / "sids.parquet").num_rows == WIDE.ads + WIDE.organic_items
    events = pq.read_table(work_dir / "log" / "events.parquet")
    assert set(pc.unique(events["scene"]).to_pylist()) == set(SCENE_NAMES)
    assert set(pc.unique(events["item_kind"]).to_pylist()) == {"ad", "organic"}
    told = users(world).to_pylist()
    for row in events.slice(0, 200).to_pylist():
        of_user = told[int(row["user_id"].removeprefix("user"))]
        assert all(row[name] == of_user[name] for name in ("segment", "age_band", "region"))
    assert pq.read_table(work_dir / "log" / "users.parquet").equals(users(world))
    jobs = yaml.safe_load((work_dir / "jobs.yaml").read_text())
    told_of_user = {"kind": "category", "source": "user", "model": True}
    assert jobs["features"] == dict.fromkeys(("segment", "age_band", "region"), told_of_user)
    assert open_market(work_dir).config == WIDE


def test_what_may_be_shown_is_told_request_by_request(work_dir: Path, world: World) -> None:
    shards = sorted((work_dir / "prepared" / "sequences").glob("*.parquet"))
    audience = audience_of([sequence for shard in shards for sequence in read_sequences(shard)])
    requests = world.requests(12, 20)
    asked = [audience.request(requests, place) for place in range(20)]
    names = ["organic3", *(ad_id(number) for number in range(WIDE.ads))]
    live = np.array([False, *world.live(12)])
    allowed = allowed_ads(world, asked, names, live)
    for place in range(20):
        user = requests.user_R[place : place + 1]
        assert allowed[place][1:].tolist() == (world.legal(user, np.arange(WIDE.ads)[None])[0] & live[1:]).tolist()
        assert not allowed[place][0]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), max_size=12))
def test_truth_auc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[int, float]]) -> None:
    score, true = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs], float)
    weight = [(i, j, true[i] * (1 - true[j])) for i in range(len(pairs)) for j in range(len(pairs)) if i != j]
    total = sum(w for _, _, w in weight)
    right = sum(w * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0) for i, j, w in weight)
    found = truth_auc(score, true)
    assert (np.isnan(found) and total < 1e-12) or found == pytest.approx(right / total, abs=1e-6) or total < 1e-9


def test_the_truth_itself_has_the_best_auc_in_each_scene(world: World) -> None:
    requests = world.requests(3, 4000)
    ads = world.logging_choice(requests)[:, 0]
    true = world.click_probability(requests.user_R, ads[:, None], 3, requests.scene_R)[:, 0]
    blind = world.click_probability(requests.user_R, ads[:, None], 3)[:, 0]
    scenes = np.array(SCENE_NAMES)[requests.scene_R]
    best, without = truth_auc_by(true, true, scenes), truth_auc_by(blind, true, scenes)
    assert set(best) == set(SCENE_NAMES) and all(best[name] >= without[name] - 1e-12 for name in best)
    assert best["feed"] - without["feed"] < 1e-9 < best["inbox"] - without["inbox"]
    assert truth_auc(np.zeros(5), np.full(5, 0.3)) == 0.5 and np.isnan(truth_auc(np.zeros(0), np.zeros(0)))
