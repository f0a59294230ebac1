"""One seed of the ladder: its market, log, lists and models, and the revenue that each row brings there.

Every row of one seed sees the same market, log and requests.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from adbeam import artifacts
from adbeam.bundle import catalogue_with_sids, load_bundle, write_bundle
from adbeam.bundle_settings import BundleSettings
from adbeam.config import Config
from adbeam.decoding.config import OrderBy
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import UserSequence, read_sequences
from adbeam.market.cascade import Cascade, click_pairs, train_two_tower
from adbeam.market.config import MarketConfig
from adbeam.market.feed import Feed, audience_of, live_ads, shown_ads
from adbeam.market.play import Market
from adbeam.market.workdir import prepare_market, tokenize_market
from adbeam.market.world import SCENES, World
from adbeam.rewards import generate_lists, reward
from adbeam.rewards.scoring import RewardModel
from adbeam.training.data.build_rows import build_rows
from adbeam.training.reference_loop import train_plain
from adbeam.training.trainer import build_job, lists_for
from adbeam.workdir import WorkDir
from benchmarks.ladder.rows import BASE, FULL, ORDERS, Row, named
from benchmarks.rig.report import commit

MARKET = MarketConfig(users=1000, ads=1000, requests_per_user_day=3.0)
"""As many requests as the default market's, of fewer users for fewer ads: the log says enough of each that the reward
model's order is worth learning (docs/laboratory.md)."""
STEPS, MORE_STEPS = 1000, 400
"""Of a row's first leg and of its second, two and a half passes over the log's requests together."""


def folder_of_commit(folder: Path) -> Path:
    """Where the ladder keeps what this commit of the platform made: none of it is used by another."""
    return folder / commit("platform/adbeam")


@dataclass(frozen=True)
class Bench:
    """One seed of the ladder in its folder; everything that is finished there is used again."""

    root: Path
    seed: int
    steps: int
    more_steps: int
    requests: int
    market: MarketConfig = MARKET

    def config(self, row: Row, **more: Any) -> Config:
        """What a row is trained with."""
        work_dir = self.root / ("unified" if row.unified_sids else "plain")
        return Config.load(None, {"work_dir": str(work_dir), "seed": self.seed, **BASE, **dict(row.settings), **more})

    def prepare(self) -> World:
        """The market, its log, both kinds of SIDs and the reward model."""
        world = World(self.market, self.seed)
        for row in (named("gr_base"), named("ua_sid")):
            config = self.config(row)
            if not WorkDir(config.work_dir).prepared.exists():
                prepare_market(world, config.work_dir)
            if not WorkDir(config.work_dir).tokens.exists():
                tokenize_market(world, config.work_dir, config.model.codebooks, unified=row.unified_sids)
            if row.unified_sids:  # lists are made of these alone
                reward(config)
        return world

    def weights(self, row: Row) -> Path:
        """The trained weights of a row; trains them, and what they go on from, where they are not there.

        The name is made of what decides them beside the platform's code: settings, market and start.
        """
        row = row.source
        start = None if row.goes_on is None else self.weights(named(row.goes_on))
        if start is None:
            more: dict[str, Any] = {"training.max_steps": self.steps}
        else:
            more = {"training.max_steps": self.more_steps, "training.learning_rate": 0.001, "training.warmup_steps": 0}
        config = self.config(row, **more)
        decided_by = config.model_dump(mode="json", exclude={"work_dir"})
        key = artifacts.fingerprint(decided_by, row.unified_sids, self.market.model_dump(), start and start.name)
        path = self.root / "weights" / f"{row.name}-{key}.safetensors"
        if path.is_file():
            return path
        training = config.training.model_copy(update={"start_from": start})
        config = config.model_copy(update={"training": training})
        if config.objectives.preference.method != "none":
            assert row.goes_on is not None
            self._lists(named(row.goes_on), config)
        store = build_rows(config, use_ray=False)
        job, stream = build_job(config, store, self.root / "run", lists_for(config, store))
        job = replace(job, total_steps=int(more["training.max_steps"]))
        model, _ = train_plain(job, stream)
        path.parent.mkdir(parents=True, exist_ok=True)
        artifacts.write_json(path.with_suffix(".json"), job.maker.buckets.means.tolist())
        partial = path.with_name(f".{path.name}.partial")
        save_file(model.state_dict(), partial)
        partial.rename(path)
        return path

    def _means(self, row: Row) -> list[float]:
        """Mean value of each eCPM bucket of a trained row."""
        return list(json.loads(self.weights(row).with_suffix(".json").read_text(encoding="utf-8")))

    def _lists(self, row: Row, config: Config) -> None:
        """Lists by the model that `row` trained, in the work_dir of `config`; current ones are kept."""
        bundles = WorkDir(config.work_dir).bundles
        if not bundles.is_dir() or load_bundle(bundles).manifest.get("row") != self.weights(row).stem:
            self.write_bundle(row)
        generate_lists(config)

    def write_bundle(self, row: Row) -> None:
        """Put the trained row in force in its work_dir."""
        config = self.config(row)
        write_bundle(
            WorkDir(config.work_dir).bundles,
            model_config=config.model,
            settings=BundleSettings(ecpm_means=self._means(row), scenes=list(SCENES)),
            weights=load_file(self.weights(row)),
            codebooks={"level_0": torch.zeros(1, 1)},
            ladder_quality={"metric": "none", "full_widths": list(FULL), "schedules": []},
            catalogue=self._catalogue(config),
            details={"row": self.weights(row).stem},
        )

    def recommender(self, row: Row, order_by: OrderBy) -> Recommender:
        """What a row answers with."""
        from adbeam.model import build_model

        config = self.config(row.source)
        model = build_model(config.model)
        model.load_state_dict(load_file(self.weights(row)))
        return Recommender(
            model.eval(), self._catalogue(config), self._means(row), order_by=order_by, include_paused=True
        )

    @staticmethod
    def _catalogue(config: Config) -> pa.Table:
        work_dir = WorkDir(config.work_dir)
        prepared = PreparedLog.open(work_dir.prepared, verify=False)
        return catalogue_with_sids(prepared.catalogue(), pq.read_table(work_dir.sids))

    def sequences(self) -> list[UserSequence]:
        """All users of the log."""
        shards = PreparedLog.open(WorkDir(self.config(named("ua_sid")).work_dir).prepared, verify=False).sequences()
        return [sequence for shard in shards for sequence in read_sequences(shard)]

    def judge(self, row: Row, world: World) -> dict[str, Any]:
        """The day after the log: expected revenue a request in every order that the row can be asked for ("by_order"),
        decoded requests a second in its own, and the name of its weights."""
        requests = world.requests(self.market.days, self.requests)
        feed = Feed(Market(world), audience_of(self.sequences()), self.root / "feed")
        knows_values = self.config(row.source).objectives.lambda_ecpm > 0
        found: dict[str, float] = {}
        per_second = 0.0
        for order in ORDERS if knows_values else (row.order_by,):
            recommender = self.recommender(row, order)  # trains what is missing
            began = time.process_time()
            shown = feed.answer(recommender, requests, row.widths, self.market.slots)
            if order == row.order_by:
                per_second = self.requests / (time.process_time() - began)
            found[order] = float(Market(world).expected_revenue(requests, shown).mean())
        return {"per_second": per_second, "by_order": found, "weights": self.weights(row).stem}

    def cascade(self, sequences: list[UserSequence]) -> Cascade:
        """Two-tower recall and DLRM ranking, both of the log."""
        work_dir = WorkDir(self.config(named("ua_sid")).work_dir)
        catalogue = PreparedLog.open(work_dir.prepared, verify=False).catalogue()
        judge = RewardModel.open(work_dir.reward, catalogue)
        return Cascade(train_two_tower(click_pairs(sequences, judge), judge, self.seed), judge, catalogue)

    def judge_cascade(self, world: World) -> float:
        """Expected revenue a request of the cascade."""
        sequences, requests = self.sequences(), world.requests(self.market.days, self.requests)
        cascade, market = self.cascade(sequences), Market(world)
        live = live_ads(market, requests, cascade.ads)
        rank = partial(cascade.rank, count=self.market.slots, live_N=live)
        shown = shown_ads(rank, audience_of(sequences), requests, self.market.slots)
        return float(market.expected_revenue(requests, shown).mean())

    def bounds(self, world: World) -> dict[str, float]:
        """Revenue a request of random live ads and of the truth's own best, to see where the ladder stands."""
        requests = world.requests(self.market.days, self.requests)
        live = np.flatnonzero(world.live(requests.day))
        rng = np.random.default_rng(self.seed)
        random = live[rng.integers(len(live), size=(len(requests), self.market.slots))]
        every = np.broadcast_to(live, (len(requests), len(live)))
        best = np.argsort(-world.ecpm(requests.user_R, every, requests.day), axis=1)[:, : self.market.slots]
        shown = {"random": random, "best": live[best]}
        return {name: float(Market(world).expected_revenue(requests, ads).mean()) for name, ads in shown.items()}
