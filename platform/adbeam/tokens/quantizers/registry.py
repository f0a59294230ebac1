"""The registry of quantizers, by the names of `tokens.quantizer.method`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from adbeam.imports.registry import Registry
from adbeam.tokens.config import QuantizerConfig
from adbeam.tokens.quantizers.base import Quantizer

QUANTIZERS = Registry(
    "tokens.quantizer.method",
    {
        "rq_kmeans": "adbeam.tokens.quantizers.rq_kmeans:RQKMeans",
        "rq_kmeans_plus": "adbeam.tokens.quantizers.rq_vae:RQKMeansPlus",
        "rq_vae": "adbeam.tokens.quantizers.rq_vae:RQVAE",
    },
)


def build_quantizer(config: QuantizerConfig, codebooks: Sequence[int], *, seed: int) -> Quantizer:
    """The quantizer that `config.method` names, not yet fitted."""
    quantizer: Quantizer = QUANTIZERS.load(config.method)(codebooks, config, seed=seed)
    return quantizer


def load_quantizer(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Quantizer:
    """The fitted quantizer that `state()` described."""
    quantizer: Quantizer = QUANTIZERS.load(settings["method"]).from_state(settings, tensors)
    return quantizer
