"""The registry of embedders, by the names of `tokens.embedder.kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from adbeam.imports.registry import Registry
from adbeam.tokens.config import EmbedderConfig
from adbeam.tokens.embedders.base import Embedder

EMBEDDERS = Registry(
    "tokens.embedder.kind",
    {
        "attributes": "adbeam.tokens.embedders.attributes:AttributeEmbedder",
        "language": "adbeam.tokens.embedders.language:LanguageEmbedder",
        "multimodal": "adbeam.tokens.embedders.multimodal:MultimodalEmbedder",
    },
)


def build_embedder(config: EmbedderConfig) -> Embedder:
    """The embedder that `config.kind` names, not yet fitted."""
    embedder: Embedder = EMBEDDERS.load(config.kind)(config)
    return embedder


def load_embedder(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Embedder:
    """The fitted embedder that `state()` described."""
    embedder: Embedder = EMBEDDERS.load(settings["kind"]).from_state(settings, tensors)
    return embedder
