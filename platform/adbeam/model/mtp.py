"""A DeepSeek-style multi-token-prediction decoder: the baseline that LazyAR is compared with (GR4AD 1.4.2, Table 1).

The main decoder of L layers answers for the first level alone. Every later step has a shallow module of its own, which
takes the state before it and the code just chosen:

    h_1 = Dec^(L)( ... Dec^(1)(p_1 + BOS, X) )
    h_t = Block_t( M_t [ RMSNorm(h_{t-1}) ; RMSNorm(s_{t-1}) ], X ),   t = 2..T+1        (DeepSeek-V3, eq 21-23)

So beams cost one block a step, with parameters that only that step uses; the early layers never see a code. It offers
what LazyAR offers (encode, trunk, step, head, prior, train_losses).

Shapes: B contexts, P prefixes of one context (1 here), M targets, W beams, T SID levels, D width, V codebook size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.features.batch import TrainBatch
from adbeam.model.codes import CodeTable, LevelEmbedding
from adbeam.model.config import ModelConfig
from adbeam.model.context import ContextProcessor, ContextState
from adbeam.model.heads import SidDecoder, negative_log_likelihood, shared_nll
from adbeam.model.initialise import initialise
from adbeam.model.layers import Block


@dataclass(frozen=True)
class BeamState:
    """What a step leaves for the next: states [B, W, D] before the last norm."""

    h_BWD: Tensor


class MtpDecoder(SidDecoder):
    """The model. `forward` is `train_losses`, so that a training engine can wrap it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.codes = nn.ModuleList(CodeTable(size, config.width) for size in config.codebooks)
        self.ecpm_head = nn.Linear(config.width, config.ecpm_buckets, bias=False)
        self.context = ContextProcessor(config)
        self.steps = LevelEmbedding(config.levels + 1, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.joins = nn.ModuleList(nn.Linear(2 * config.width, config.width, bias=False) for _ in config.codebooks)
        self.extra = nn.ModuleList(Block(config) for _ in config.codebooks)
        self.norm = nn.LayerNorm(config.width)
        initialise(self)
        for block in self.extra:
            block.load_state_dict(self.blocks[-1].state_dict())

    def trunk(self, state: ContextState) -> Tensor:
        """h_1 [B, 1, D]: all L layers, once a request."""
        position_TD, bos_D = self.steps()
        x = (position_TD[0] + bos_D).expand(len(state.mask_BS), 1, 1, -1)
        bias = state.bias()
        for index, block in enumerate(self.blocks):
            x, _ = block(x, *state.layers[index * self.config.context_kv_groups // self.config.layers], bias)
        h_B1D: Tensor = x[:, 0]
        return h_B1D

    def step(
        self,
        level: int,
        trunk_B1D: Tensor,
        state: ContextState,
        code_BW: Tensor | None = None,
        parent_BW: Tensor | None = None,
        cache: BeamState | None = None,
    ) -> tuple[Tensor, BeamState]:
        """(h [B, W, D] ready for `head(level, h)`, the state for the next step); see LazyAR.step."""
        if cache is None or code_BW is None:
            return self.norm(trunk_B1D), BeamState(trunk_B1D)
        before_BWD = cache.h_BWD
        if parent_BW is not None:
            before_BWD = before_BWD.gather(1, parent_BW[..., None].expand(*parent_BW.shape, before_BWD.shape[-1]))
        x_BWD = self.join(level, before_BWD, self.codes[level - 1](code_BW))
        h_BW1D, _ = self.extra[level - 1](x_BWD[:, :, None], *state.layers[-1], state.bias())
        return self.norm(h_BW1D[:, :, 0]), BeamState(h_BW1D[:, :, 0])

    def join(self, level: int, before: Tensor, code: Tensor) -> Tensor:
        """M_t [RMSNorm(h_{t-1}); RMSNorm(s_{t-1})] of states and code embeddings [..., D]."""
        width = (self.config.width,)
        both = torch.cat([F.rms_norm(before, width), F.rms_norm(code, width)], dim=-1)
        joined: Tensor = self.joins[level - 1](both)
        return joined

    def forward(self, batch: TrainBatch, mtp: bool = True) -> dict[str, Tensor]:
        """See `train_losses`; `mtp` (LazyAR's auxiliary loss) has no meaning here."""
        return self.train_losses(batch, mtp)

    def train_losses(self, batch: TrainBatch, mtp: bool = True) -> dict[str, Tensor]:
        """Negative log-likelihoods in nats, each float32 [B, 1, M] and unweighted: `sid`, `ecpm`, and the terms
        `level` [T, B, 1, M], as of LazyAR.train_losses. Needs one prefix a context."""
        B, P, M, T = batch.code_BPMT.shape
        if P != 1:
            raise ValueError(f"this decoder reads one prefix a context, not {P}")
        state, code_BMT = self.encode(batch.context), batch.code_BPMT[:, 0]
        h_BWD, cache = self.step(0, self.trunk(state), state)
        prior = self.prior(0, state, code_BMT[:, :1, :0])
        first_BV = self.head(0, h_BWD[:, 0]) + (prior[:, 0] if prior.dim() else prior)
        level = [shared_nll(first_BV, code_BMT[..., 0], self.smoothing)]
        cache = BeamState(cache.h_BWD.expand(B, M, -1))
        for t in range(1, T + 1):
            h_BWD, cache = self.step(t, cache.h_BWD, state, code_BMT[..., t - 1], None, cache)
            logits_BMV = self.head(t, h_BWD)
            if t < T:
                logits_BMV = logits_BMV + self.prior(t, state, code_BMT[..., :t])
                level.append(negative_log_likelihood(logits_BMV, code_BMT[..., t], self.smoothing))
        known_BM = batch.bucket_BPM[:, 0] >= 0
        ecpm_BM = negative_log_likelihood(logits_BMV, batch.bucket_BPM[:, 0].clamp_min(0)) * known_BM
        level_TBPM = torch.stack(level)[:, :, None]
        return {"sid": level_TBPM.sum(0), "ecpm": ecpm_BM[:, None], "level": level_TBPM}
