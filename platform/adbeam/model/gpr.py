"""GPR, the one-model generator of arXiv 2511.10138: HSD reads a request's typed sequence, PTD generates the code path.

HSD (`model/hsd/`) gives intent embeddings, thinking tokens filter them, and the layers of LazyAR decode the path from
these: `lazy_layers: 0` is the paper's plain path, more of them run once a request for all beams ("lazy" PTD, not in
GPR). Search, priors, eCPM step and losses are LazyAR's.
"""

from __future__ import annotations

from adbeam.model.config import ModelConfig
from adbeam.model.context import ContextProcessor
from adbeam.model.hsd.context import HsdContext
from adbeam.model.lazyar import LazyAR


class Gpr(LazyAR):
    """HSD, thinking tokens and the code path."""

    def read_context(self, config: ModelConfig) -> ContextProcessor:
        """HSD with thinking tokens; without any the path reads all intent embeddings."""
        return HsdContext(config, thinking=config.gpr.thinking_tokens > 0)
