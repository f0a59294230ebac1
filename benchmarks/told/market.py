"""What telling a model of its users earns on simulated markets, and how much better the reward model knows the truth.

Every market is widened: segments, scenes, organic items, targeting. Both sides learn from one log of it, answer the
same requests of the day after and may show the same ads; they differ in that `features` declares what is known of users
with `model: true`, or leaves it out. Everything is **simulated**.

A market that is finished stays in the folder, by the commit of the platform and by what decides it: interrupted, the
benchmark goes on at the next one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from adbeam import artifacts
from adbeam.bundle import catalogue_with_sids
from adbeam.config import Config
from adbeam.inference.recommender import Recommender
from adbeam.logs.config import LogsConfig
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences
from adbeam.market.config import MarketConfig
from adbeam.market.feed import Audience, Feed, audience_of, codes_of_users
from adbeam.market.judging import reward_truth_auc
from adbeam.market.log import log_settings, write_log
from adbeam.market.play import Market
from adbeam.market.truth.scenes import SCENE_NAMES
from adbeam.market.workdir import features_of, prepare_log, tokenize_market
from adbeam.market.world import Requests, World
from adbeam.rewards import reward
from adbeam.rewards.scoring import RewardModel
from adbeam.training.data.build_rows import build_rows
from adbeam.training.reference_loop import train_plain
from adbeam.training.trainer import build_job
from adbeam.workdir import WorkDir
from benchmarks.ladder.market import folder_of_commit
from benchmarks.ladder.rows import BASE, FULL
from benchmarks.ladder.run import interval, with_interval

WIDE = MarketConfig(
    users=6000, ads=240, categories=12, days=20, requests_per_user_day=0.5, organic_items=200, organic_per_request=0.5,
    scenes=6, segments=8, segment_taste=0.7, targeting=True, click_rate=0.12, conversion_rate=0.3, logging_noise=2.0,
)  # fmt: skip
"""Users who ask ten times on average, so that not all of what they like shows in what they did; a log that explores, of
few ads, so that the reward model learns their order at all."""
SETTINGS: dict[str, Any] = {
    **BASE, "training.max_steps": 600, "rewards.epochs": 10, "rewards.batch_exposures": 256,
}  # fmt: skip
SIDES = {"with": True, "without": False}


@dataclass(frozen=True)
class Sizes:
    """How large each market is, and how long both sides learn."""

    market: MarketConfig = WIDE
    requests: int = 2000
    """Of the day after the log, which both sides answer."""
    judged: int = 400
    """Requests that the reward models are judged on, in every scene."""
    settings: tuple[tuple[str, Any], ...] = tuple(SETTINGS.items())

    @property
    def key(self) -> str:
        """Of everything that decides a market's result beside its seed and the platform's code."""
        return artifacts.fingerprint(self.market.model_dump(), self.requests, self.judged, dict(self.settings))[:12]


def market_figures(markets: int, root: Path, sizes: Sizes) -> dict[str, Any]:
    """`features_revenue_gain` and the `auc_gain`s with their 95 % intervals over markets, and the markets' own results
    as `markets`."""
    torch.set_num_threads(1)
    folder = folder_of_commit(root)
    return summed_up([judged(folder, seed, sizes) for seed in range(markets)])


def judged(folder: Path, seed: int, sizes: Sizes) -> dict[str, Any]:
    """One market: {"revenue": {side: a request}, "auc": {side: {scene: AUC}}}; read back where it is finished."""
    done = folder / f"market-{seed:02d}-{sizes.key}.json"
    if done.is_file():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    began, world, place = time.monotonic(), World(sizes.market, seed), folder / f"market-{seed:02d}"
    shutil.rmtree(place, ignore_errors=True)  # what was cut short begins again
    write_log(world, WorkDir(place).log)
    sides = {side: _judged_side(world, place, side, sizes) for side in SIDES}
    found: dict[str, Any] = {
        "seed": seed,
        "revenue": {side: one["revenue"] for side, one in sides.items()},
        "auc": {side: one["auc"] for side, one in sides.items()},
        "seconds": round(time.monotonic() - began),
    }
    shutil.rmtree(place)
    artifacts.write_json(done, found)
    gain = found["revenue"]["with"] / found["revenue"]["without"] - 1
    print(f"market {seed}: revenue {gain:+.1%}, {found['seconds']} s, {found}", flush=True)
    return found


def summed_up(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of finished markets: pairs, so that luck of a market is in none of the differences."""
    gain = np.array([one["revenue"]["with"] / one["revenue"]["without"] - 1 for one in results])
    better = {
        scene: np.array([one["auc"]["with"][scene] - one["auc"]["without"][scene] for one in results])
        for scene in SCENE_NAMES
    }
    return {
        **with_interval("features_revenue_gain", gain),
        **with_interval("auc_gain", np.mean(list(better.values()), axis=0)),
        **{f"auc_gain_{scene}": interval(values)[0] for scene, values in better.items()},
        "markets_judged": len(results),
        "markets": list(results),
    }


def _judged_side(world: World, place: Path, side: str, sizes: Sizes) -> dict[str, Any]:
    told, work_dir, days = SIDES[side], place / side, world.config.days
    logs = LogsConfig.parse({**log_settings(world, WorkDir(place).log, days, told=told), "shards": 4})
    features = features_of(world, told=told)
    prepared = prepare_log(work_dir, logs, features)
    config = Config.load(None, {"work_dir": str(work_dir), "seed": world.seed, **dict(sizes.settings)})
    config = config.model_copy(update={"features": features})
    tokenize_market(world, work_dir, config.model.codebooks)
    sequences = [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]
    audience = audience_of(sequences, codes_of_users(world, prepared.told()))
    asked = world.requests(days, sizes.requests)
    shown = Feed(Market(world), audience, work_dir).answer(_trained(config, prepared), asked, FULL, world.config.slots)
    reward(config)
    return {
        "revenue": float(Market(world).expected_revenue(asked, shown).mean()),
        "auc": _truth_auc(world, config, prepared, audience, world.requests(days, sizes.judged)),
    }


def _trained(config: Config, prepared: PreparedLog) -> Recommender:
    store = build_rows(config, use_ray=False)
    job, stream = build_job(config, store, WorkDir(config.work_dir).root / "run")
    model: Any = train_plain(job, stream)[0]
    catalogue = catalogue_with_sids(prepared.catalogue(), pq.read_table(WorkDir(config.work_dir).sids))
    means = job.maker.buckets.means.tolist()
    return Recommender(model.eval(), catalogue, means, order_by="expected_value", include_paused=True)


def _truth_auc(
    world: World, config: Config, prepared: PreparedLog, audience: Audience, asked: Requests
) -> dict[str, float]:
    """{scene: AUC}: the same requests in every scene, so that a scene of 1 % is known as well as the largest."""
    model = RewardModel.open(WorkDir(config.work_dir).reward, prepared.catalogue())
    return {
        scene: reward_truth_auc(world, model, audience, [replace(asked, scene_R=np.full(len(asked), number))])["all"]
        for number, scene in enumerate(SCENE_NAMES)
    }
