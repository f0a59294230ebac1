"""A small model, catalogue and contexts for tests of the decoding engine."""

from __future__ import annotations

import numpy as np
import torch

from adbeam.decoding import DecodeResult
from adbeam.features.batch import ContextBatch
from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR

CONFIG = ModelConfig(
    width=32, layers=3, lazy_layers=2, heads=4, context_kv_heads=2, context_kv_groups=3, codebooks=(32, 24, 16),
    ecpm_buckets=6, short_length=6, long_length=4, item_buckets=64, prefix_buckets=64, user_buckets=16, dropout=0.0,
)  # fmt: skip


def context_of(config: ModelConfig, size: int, seed: int = 0) -> ContextBatch:
    """Contexts with random features and some missing tokens."""
    generator = torch.Generator().manual_seed(seed)
    spec = FeatureSpec.of(config)

    def draw(sizes: list[int], *shape: int) -> torch.Tensor:
        return torch.stack([torch.randint(0, n, (size, *shape), generator=generator) for n in sizes], dim=-1)

    code_BST = draw(list(config.codebooks), config.context_length)
    mask_BS = torch.rand(size, config.context_length, generator=generator) < 0.7
    mask_BS[:, 0] = True
    code_BST[~mask_BS] = -1
    return ContextBatch(
        draw(list(spec.static.values())), code_BST, draw(list(spec.token.values()), config.context_length), mask_BS
    )


def part(context: ContextBatch, row: slice) -> ContextBatch:
    """Some of the contexts."""
    return ContextBatch(context.static_BF[row], context.code_BST[row], context.feature_BSC[row], context.mask_BS[row])


def model_of(config: ModelConfig = CONFIG, seed: int = 0) -> LazyAR:
    """A model with random weights."""
    torch.manual_seed(seed)
    return LazyAR(config).eval()


def catalogue(items: int = 2000, config: ModelConfig = CONFIG, seed: int = 0) -> np.ndarray:
    """Random semantic IDs, one row an item."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.integers(0, size, items) for size in config.codebooks], axis=1)


def assert_same_answer(one: DecodeResult, other: DecodeResult) -> None:
    """Products of another shape round differently: two ads that tie at the edge of a beam may change places."""
    score = dict(zip(map(tuple, other.sids_nT.tolist()), other.log_probability_n.tolist(), strict=True))
    value = dict(zip(map(tuple, other.sids_nT.tolist()), other.expected_ecpm_n.tolist(), strict=True))
    shared = [(n, sid) for n, sid in enumerate(map(tuple, one.sids_nT.tolist())) if sid in score]
    assert one.size == other.size and len(shared) >= one.size - 1 and one.widths == other.widths
    assert all(abs(score[sid] - one.log_probability_n[n]) < 1e-4 for n, sid in shared)
    assert all(abs(value[sid] - one.expected_ecpm_n[n]) < 1e-3 for n, sid in shared)
