"""LazyAR and the decoder it is compared with: the context processor, the decoders and their priors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbeam.model.config import ModelConfig
    from adbeam.model.lazyar import LazyAR
    from adbeam.model.mtp import MtpDecoder


def build_model(config: ModelConfig) -> LazyAR | MtpDecoder:
    """The decoder that `config.decoder` names, with fresh weights from torch's random numbers."""
    from adbeam.model.lazyar import LazyAR
    from adbeam.model.mtp import MtpDecoder

    return LazyAR(config) if config.decoder == "lazyar" else MtpDecoder(config)
