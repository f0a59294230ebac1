"""A small simulated market whose log is prepared, tokenized and trained on: what the online loop begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from adbeam.bundle import catalogue_with_sids, load_bundle, write_bundle
from adbeam.bundle_settings import BundleSettings
from adbeam.config import Config
from adbeam.features.spec import FeatureSpec
from adbeam.inference.recommender import Recommender
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import read_sequences
from adbeam.market.config import MarketConfig
from adbeam.market.feed import Feed, audience_of, codes_of_users
from adbeam.market.play import Market
from adbeam.market.workdir import features_of, prepare_market, tokenize_market
from adbeam.market.world import World
from adbeam.rewards import reward
from adbeam.training.data.build_rows import build_rows, model_of
from adbeam.training.reference_loop import train_plain
from adbeam.training.trainer import build_job
from adbeam.workdir import WorkDir

MARKET = MarketConfig(users=200, ads=150, days=12, categories=8, brands=10, advertisers=20, click_rate=0.25,
                      conversion_rate=0.4, delay_hours=18, drift_period_days=30)  # fmt: skip
WIDTHS = (8, 16, 16)
MODEL = {"width": 32, "layers": 3, "lazy_layers": 2, "heads": 4, "context_kv_groups": 1, "codebooks": (8, 8, 16),
         "ecpm_buckets": 8, "short_length": 16, "long_length": 8, "item_buckets": 512, "prefix_buckets": 64,
         "user_buckets": 256}  # fmt: skip


def market_config(work_dir: Path, **sections: Any) -> Config:
    """A small configuration of the whole loop in one process; training counts clicks and conversions."""
    training = {"batch_requests": 16, "batch_lists": 8, "lanes": 4, "workers": 0, "warmup_steps": 5, "shuffle_steps": 8,
                "learning_rate": 0.004, "max_steps": 60, "target_action": "click",
                **sections.pop("training", {})}  # fmt: skip
    online = {"workers": 0, "shards": 2, "min_samples": 8, "lists_per_round": 24,
              "gate": {"min_requests": 5, **sections.pop("gate", {})}, **sections.pop("online", {})}  # fmt: skip
    rewards = {"workers": 0, "epochs": 2, "embedding_width": 4, "hidden": (16,), "item_buckets": 512,
               "attribute_buckets": 64, "user_buckets": 256, "batch_exposures": 256}  # fmt: skip
    return Config.parse(
        {"work_dir": work_dir, "model": MODEL, "training": training, "online": online, "rewards": rewards,
         "lists": {"workers": 0, "candidates": 8}, "decoding": {"widths": WIDTHS}, **sections}
    )  # fmt: skip


def make_market(work_dir: Path, config: Config, seed: int = 0, market: MarketConfig = MARKET) -> World:
    """Write prepared/, tokens/, training_rows/, reward/ and a first bundle; returns the market."""
    world = World(market, seed=seed)
    prepare_market(world, work_dir)
    config = config.model_copy(update={"features": features_of(world)})
    tokenize_market(world, work_dir, config.model.codebooks)
    store = build_rows(config, use_ray=False)
    job, stream = build_job(config, store, work_dir / "plain")
    model, _ = train_plain(job, stream)
    reward(config)
    publish_model(work_dir, config, model.state_dict(), job.maker.buckets.means.tolist(), store.scenes)
    return world


def publish_model(
    work_dir: Path, config: Config, weights: dict[str, torch.Tensor], means: list[float], scenes: tuple[str, ...]
) -> None:
    """A bundle with these weights."""
    prepared = PreparedLog.open(WorkDir(work_dir).prepared)
    catalogue = catalogue_with_sids(prepared.catalogue(), pq.read_table(WorkDir(work_dir).sids))
    model = model_of(config)
    write_bundle(
        WorkDir(work_dir).bundles,
        model_config=model,
        settings=BundleSettings(feature_spec=FeatureSpec.of(model).as_dict(), ecpm_means=means, scenes=list(scenes)),
        weights=weights,
        codebooks={"level_0": torch.zeros(1, 1)},
        ladder_quality={"metric": "none", "full_widths": list(config.decoding.widths), "schedules": []},
        catalogue=catalogue,
        details={},
        told=prepared.told(),
    )


def feed_of(world: World, work_dir: Path) -> Feed:
    """Traffic on that market, beginning with what the prepared log knows."""
    prepared = PreparedLog.open(WorkDir(work_dir).prepared)
    sequences = [sequence for shard in prepared.sequences() for sequence in read_sequences(shard)]
    return Feed(Market(world), audience_of(sequences, codes_of_users(world, prepared.told())), work_dir)


def play(feed: Feed, work_dir: Path, day: int, requests: int) -> float:
    """A day of traffic under the bundle in force; returns its expected revenue a request."""
    bundle = load_bundle(WorkDir(work_dir).bundles)
    recommender = Recommender.of(bundle, order_by="expected_value", include_paused=True)
    return feed.play_day(recommender, feed.market.world.requests(day, requests), WIDTHS, 4, bundle.version)
