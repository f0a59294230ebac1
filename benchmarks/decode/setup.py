"""Models, catalogues and clocks that the decoding benchmarks share.

Shapes: B requests, N ads, T levels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from adbeam.config import Config
from adbeam.decoding import Decoder
from adbeam.features.batch import ContextBatch
from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR

FULL = (128, 128, 128)
BY_LEVEL = (32, 64, 128)
"""GR4AD compares [128, 256, 512] with [512, 512, 512]: the same steps at a quarter of the width."""


SHORT_SECONDS = 3.0


class Clock:
    """Wall clock, or the processor time of this process: on a machine that others use too, with one thread, the latter
    says what the wall clock would on an idle one."""

    read: Callable[[], float] = time.perf_counter


def small(lazy_layers: int = 6) -> ModelConfig:
    """d 256, L 9, S 128, 3 x 1024 codes."""
    return Config(size="small").model.model_copy(update={"lazy_layers": lazy_layers, "dropout": 0.0})


def model_of(config: ModelConfig, seed: int = 0) -> LazyAR:
    """Random weights: speed does not depend on them."""
    torch.manual_seed(seed)
    return LazyAR(config).eval()


def random_sids(count: int, codebooks: tuple[int, ...], seed: int = 0) -> NDArray[np.int32]:
    """int32 [N, T]."""
    generator = np.random.default_rng(seed)
    sids_NT = np.empty((count, len(codebooks)), np.int32)
    for level, size in enumerate(codebooks):
        sids_NT[:, level] = generator.integers(0, size, count, dtype=np.int32)
    return sids_NT


def thread_counts() -> tuple[int, ...]:
    """One thread and two; processor time is told for one only."""
    return (1, 2) if Clock.read is time.perf_counter else (1,)


def suffix(threads: int) -> str:
    """How the name of a figure ends."""
    return "" if threads == 1 else f"_{threads}threads"


def interleaved(jobs: Mapping[str, Callable[[], object]], repeats: int, threads: int = 1) -> dict[str, float]:
    """Median seconds of each job, run in turn so that a drift of the machine falls on all alike.

    A short job runs once more before it is timed: what ran before it may have been long, and left it cold caches.
    """
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    torch.set_num_threads(threads)
    try:
        short: dict[str, bool] = {}
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            short[name] = time.perf_counter() - started < SHORT_SECONDS
        for _ in range(repeats):
            for name, job in jobs.items():
                if short[name]:
                    job()
                started = Clock.read()
                job()
                taken[name].append(Clock.read() - started)
    finally:
        torch.set_num_threads(1)
    return {name: median(times) for name, times in taken.items()}


def full_context(config: ModelConfig, size: int, seed: int = 0) -> ContextBatch:
    """Contexts of full length with random features: the most expensive ones."""
    generator, spec = torch.Generator().manual_seed(seed), FeatureSpec.of(config)

    def draw(sizes: Sequence[int], *shape: int) -> torch.Tensor:
        return torch.stack([torch.randint(0, n, (size, *shape), generator=generator) for n in sizes], dim=-1)

    length = config.context_length
    return ContextBatch(
        static_BF=draw(list(spec.static.values())),
        code_BST=draw(config.codebooks, length),
        feature_BSC=draw(list(spec.token.values()), length),
        mask_BS=torch.ones(size, length, dtype=torch.bool),
        trend_code_BNT=draw(config.codebooks, config.trending_length) if spec.trend else None,
        trend_feature_BNC=draw(list(spec.trend.values()), config.trending_length) if spec.trend else None,
    )


def decoding(decoder: Decoder, batch: int, widths: tuple[int, ...]) -> Callable[[], object]:
    """A job: decode `batch` full-length contexts. Every answer is full."""
    context = full_context(decoder.config, batch)

    def run() -> None:
        results = decoder.decode(context, [widths] * batch)
        assert all(result.size == widths[-1] for result in results)

    return run


class Stopwatch:
    """Adds up the seconds spent in methods of an object's class while it is entered."""

    def __init__(self, owner: type, *names: str) -> None:
        self.owner, self.names, self.seconds = owner, names, 0.0
        self._plain = {name: getattr(owner, name) for name in names}

    def __enter__(self) -> Stopwatch:
        for name, method in self._plain.items():
            setattr(self.owner, name, self._timed(method))
        return self

    def __exit__(self, *error: object) -> None:
        for name, method in self._plain.items():
            setattr(self.owner, name, method)

    def _timed(self, method: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            started = Clock.read()
            try:
                return method(*given, **named)
            finally:
                self.seconds += Clock.read() - started

        return call
