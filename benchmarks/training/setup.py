"""Rows and jobs for the training benchmarks: a size's model on random histories whose lengths are those of a real log.

What is measured (seconds, bytes, padding) depends on shapes, not on what the codes say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from adbeam.config import Config
from adbeam.features.spec import FeatureSpec
from adbeam.training.data.build_rows import RowStore, write_rows
from adbeam.training.data.order import RowFiles
from adbeam.training.data.rows import RowFormat
from adbeam.training.data.stream import RequestStream
from adbeam.training.job import TrainJob
from adbeam.training.trainer import build_job

ROWS_PER_FILE = 8192
EVENTS_MEAN, TARGETS_MEAN = 300.0, 3.0
"""Events before a request and items it led to, geometric: Complete Journey has about as many."""


def config_of(size: str, work_dir: Path, **training: Any) -> Config:
    """The settings of a size, with some of `training` changed."""
    settings = {"batch_requests": 32, "lanes": 8, "report_interval_steps": 20, "max_failures": 0, **training}
    return Config.parse({"size": size, "work_dir": work_dir, "training": settings})


def random_store(folder: Path, config: Config, rows: int, seed: int = 0) -> RowStore:
    """Published rows of `config`'s model."""
    folder.mkdir(parents=True, exist_ok=True)
    row_format = RowFormat.of(config.model, config.training.targets_per_request)
    names, counts = [], []
    for number, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        row_N = random_rows(config, row_format, min(ROWS_PER_FILE, rows - start), seed=seed + number)
        names.append(f"rows-{number:05d}.parquet")
        counts.append(len(row_N))
        write_rows(folder / names[-1], [row_N], row_format, seed=(seed, number))
    files = RowFiles(folder, tuple(names), tuple(counts))
    values = np.sort(np.random.default_rng(seed).lognormal(0.0, 1.0, 1000)).astype(np.float32)
    return RowStore(files, row_format, f"random-{rows}-{seed}", values, values, ("random",))


def random_rows(config: Config, row_format: RowFormat, rows: int, seed: int) -> np.ndarray:
    """Rows of random codes and features."""
    rng, spec = np.random.default_rng(seed), FeatureSpec.of(config.model)
    row_N = np.zeros(rows, dtype=row_format.dtype)
    row_N["static_F"] = np.stack([rng.integers(0, size, rows) for size in spec.static.values()], axis=1)
    events_N = rng.geometric(1 / EVENTS_MEAN, rows)
    targets_N = np.minimum(rng.geometric(1 / TARGETS_MEAN, rows), row_format.targets)
    place_S = np.arange(spec.context_length)
    short_NS = (place_S >= 1) & (place_S <= np.minimum(events_N, spec.short_length)[:, None])
    frequent_N = np.minimum((events_N / 2).astype(int), spec.long_length)
    long_NS = (place_S > spec.short_length) & (place_S <= spec.short_length + frequent_N[:, None])
    shape = (rows, spec.context_length)
    code_NST = np.stack([rng.integers(0, size, shape) for size in config.model.codebooks], axis=-1)
    row_N["code_ST"] = np.where((short_NS | long_NS)[..., None], code_NST, -1)
    row_N["feature_SC"] = np.stack([rng.integers(0, size, shape) for size in spec.token.values()], axis=-1)
    row_N["feature_SC"][..., 0] = short_NS + 2 * long_NS
    target = [rng.integers(0, size, (rows, row_format.targets)) for size in config.model.codebooks]
    row_N["target_MT"] = np.stack(target, axis=-1)
    row_N["weight_M"] = np.arange(row_format.targets) < targets_N[:, None]
    row_N["value_M"] = rng.lognormal(0.0, 1.0, (rows, row_format.targets))
    row_N["user_value"] = rng.lognormal(0.0, 1.0, rows)
    return row_N


def job_of(config: Config, store: RowStore, name: str) -> tuple[TrainJob, RequestStream]:
    """What workers are told, and their data."""
    return build_job(config, store, Path(config.work_dir).resolve() / "runs" / name)
