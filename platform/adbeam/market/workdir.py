"""A work_dir made of the simulated market: its log prepared, its ads tokenized, ready for every later step.

The vectors that ads are quantized from stand for what an embedder reads off a creative: the ad's hidden interests,
blurred. No other truth of the market reaches the platform.

Shapes: N ads, E vector features, T SID levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file

from adbeam import artifacts
from adbeam.logs.config import LogsConfig
from adbeam.logs.pipeline import run as prepare
from adbeam.logs.prepared import PreparedLog
from adbeam.market.log import catalogue, user_features, write_log
from adbeam.market.world import World
from adbeam.targeting.features import FeatureConfig, Features
from adbeam.tokens.config import QuantizerConfig
from adbeam.tokens.quantizers.hashed_level import hash_business_fields
from adbeam.tokens.quantizers.rq_kmeans import RQKMeans
from adbeam.workdir import SIDS, WorkDir

BLUR = 0.3


@dataclass(frozen=True)
class _LogSettings:
    work_dir: Path
    logs: LogsConfig
    features: Features


def prepare_market(world: World, work_dir: Path, days: int | None = None, *, told: bool = True) -> PreparedLog:
    """Write the simulated log and prepare it into `work_dir/prepared`, in this process. `told`: a model that learns
    from it hears what is known of users, where the market tells it."""
    settings = write_log(world, WorkDir(work_dir).log, days, told=told)
    return prepare_log(work_dir, LogsConfig.parse({**settings, "shards": 4}), features_of(world, told=told))


def features_of(world: World, *, told: bool = True) -> Features:
    """What is known of users, as rules of ads ask for it; `told`: the model hears it too."""
    return {name: FeatureConfig(kind="category", source="user", model=told) for name in user_features(world)}


def prepare_log(work_dir: Path, logs: LogsConfig, features: Features | None = None) -> PreparedLog:
    """Prepare a simulated log into `work_dir/prepared`, in this process."""
    return prepare(_LogSettings(work_dir, logs, features or {}), in_process=True)


def tokenize_market(world: World, work_dir: Path, codebooks: tuple[int, ...], *, unified: bool = True) -> np.ndarray:
    """Publish `work_dir/tokens`; returns the SIDs int32 [N, T], N the ads and behind them the organic items.

    `unified`: MGMR, balanced levels with a hash of business fields as the last (GR4AD 1.2.2); else plain residual
    k-means on the vectors alone, where ads of like content collide.
    """
    rng = np.random.default_rng((world.seed, 7))
    interest_NK = world.interest_NK
    if world.organic is not None:
        interest_NK = np.concatenate([interest_NK, world.organic.interest_MK])
    x_NE = (interest_NK + BLUR * rng.normal(size=interest_NK.shape)).astype(np.float32)
    quantizer = RQKMeans(codebooks, QuantizerConfig(hashed_last_level=unified, balanced=unified), seed=world.seed)
    quantizer.fit(x_NE)
    items = catalogue(world)
    sid_NT = quantizer.encode(x_NE, hash_business_fields(items, ("item_id", "advertiser")) if unified else None)
    table = pa.table(
        {
            "item_id": items["item_id"],
            "sid": pa.array(sid_NT.tolist(), pa.list_(pa.int32())),
            "kind": items["kind"],
        }
    )
    with artifacts.publish(WorkDir(work_dir).tokens, {"simulated": True}) as staging:
        pq.write_table(table, staging / SIDS)
        save_file(quantizer.state()[1], staging / "codebooks.safetensors")
    return sid_NT
