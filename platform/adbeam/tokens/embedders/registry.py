"""Which embedder: the one that `tokens.embedder.kind` names in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from adbeam.imports.extension_points import EMBEDDERS
from adbeam.tokens.config import EmbedderConfig
from adbeam.tokens.embedders.base import Embedder


def build_embedder(config: EmbedderConfig) -> Embedder:
    """The embedder that `config.kind` names, not yet fitted."""
    embedder: Embedder = EMBEDDERS.load(config.kind)(config)
    return embedder


def load_embedder(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Embedder:
    """The fitted embedder that `state()` described."""
    embedder: Embedder = EMBEDDERS.load(settings["kind"]).from_state(settings, tensors)
    return embedder
