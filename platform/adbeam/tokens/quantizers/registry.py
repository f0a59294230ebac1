"""Which quantizer: the one that `tokens.quantizer.method` names in the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from adbeam.imports.extension_points import QUANTIZERS
from adbeam.tokens.config import QuantizerConfig
from adbeam.tokens.quantizers.base import Quantizer


def build_quantizer(config: QuantizerConfig, codebooks: Sequence[int], *, seed: int) -> Quantizer:
    """The quantizer that `config.method` names, not yet fitted."""
    quantizer: Quantizer = QUANTIZERS.load(config.method)(codebooks, config, seed=seed)
    return quantizer


def load_quantizer(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Quantizer:
    """The fitted quantizer that `state()` described."""
    quantizer: Quantizer = QUANTIZERS.load(settings["method"]).from_state(settings, tensors)
    return quantizer
