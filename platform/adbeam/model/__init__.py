"""LazyAR and the decoder it is compared with: the context processor, the decoders and their priors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adbeam.imports.extension_points import MODELS

if TYPE_CHECKING:
    from adbeam.model.config import ModelConfig
    from adbeam.model.heads import SidDecoder


def build_model(config: ModelConfig) -> SidDecoder:
    """The decoder that `config.decoder` names, with fresh weights from torch's random numbers."""
    model: SidDecoder = MODELS.load(config.decoder)(config)
    return model
