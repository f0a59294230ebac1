"""LazyAR, the generative decoder of GR4AD 1.4: a parallel trunk shared by all beams, late injection, a short tail.

`encode` reads a context once, `trunk` runs layers 1..K for all steps at once, `step` runs the tail for one level and
all beams, `head` gives logits. Step T (the last) predicts the eCPM bucket. K = 0 is the plain autoregressive decoder.

Shapes: B contexts, P prefixes of one context, M targets of one prefix, Q = P * M sequences, W beams, T SID levels
(T + 1 steps with the eCPM step), D width, V codebook size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adbeam.features.batch import TrainBatch
from adbeam.model.codes import CodeTable, Fuse, LevelEmbedding
from adbeam.model.config import ModelConfig
from adbeam.model.context import ContextProcessor, ContextState, Sight
from adbeam.model.heads import SidDecoder, negative_log_likelihood, shared_nll
from adbeam.model.hsd.context import HsdContext
from adbeam.model.initialise import initialise
from adbeam.model.layers import Block, StepCache
from adbeam.model.priors.neighbours import Prefixes
from adbeam.model.recency import RecencyBias


@dataclass(frozen=True)
class TailCache:
    """Self-attention keys and values of the tail's earlier steps, per layer [B, W, H, t, d]."""

    layers: tuple[StepCache, ...]
    path_BWt: Tensor | None = None
    """Codes of the beams so far; None before the first."""

    def follow(self, parent_BW: Tensor) -> Self:
        """The cache of the beams that descend from beams `parent_BW`."""
        row_B1 = torch.arange(parent_BW.shape[0], device=parent_BW.device)[:, None]
        layers = tuple((key[row_B1, parent_BW], value[row_B1, parent_BW]) for key, value in self.layers)
        return type(self)(layers, None if self.path_BWt is None else self.path_BWt[row_B1, parent_BW])

    def append(self, code_BW: Tensor) -> Self:
        """The cache after `code_BW` were chosen."""
        code_BW1 = code_BW[..., None]
        path = code_BW1 if self.path_BWt is None else torch.cat([self.path_BWt, code_BW1], dim=-1)
        return type(self)(self.layers, path)


class LazyAR(SidDecoder):
    """The model. `forward` is `train_losses`, so that a training engine can wrap it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.codes = nn.ModuleList(CodeTable(size, config.width) for size in config.codebooks)
        self.ecpm_head = nn.Linear(config.width, config.ecpm_buckets, bias=False)
        self.context = self.read_context(config)
        self.steps = LevelEmbedding(config.levels + 1, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.recency = nn.ModuleList(RecencyBias(config) for _ in range(config.layers if config.recency_bias else 0))
        self.fuse = Fuse(config.width)
        self.norm = nn.LayerNorm(config.width)
        self.activation_checkpointing = False
        """Whether training computes a layer's activations again instead of keeping them."""
        initialise(self)

    def read_context(self, config: ModelConfig) -> ContextProcessor:
        """What makes keys and values of contexts, with fresh weights."""
        return HsdContext(config, thinking=False) if config.context == "hsd" else ContextProcessor(config)

    def trunk(self, state: ContextState) -> Tensor:
        """m^(K) [B, T+1, D]: layers 1..K of every step in one pass, without any code (GR4AD eq 5-6)."""
        return self._trunk(state, Sight.of(state), prefixes=1)[:, 0]

    def step(
        self,
        level: int,
        trunk_BTD: Tensor,
        state: ContextState,
        code_BW: Tensor | None = None,
        parent_BW: Tensor | None = None,
        cache: TailCache | None = None,
    ) -> tuple[Tensor, TailCache]:
        """(h [B, W, D] ready for `head(level, h)`, the cache for the next step).

        `code_BW` are the codes chosen at level - 1 and `parent_BW` the beams they extend; at level 0 all three are None
        and W = 1. Without `parent_BW` beam w extends beam w.
        """
        path_BWt = None
        if cache is not None and code_BW is not None:
            cache = (cache if parent_BW is None else cache.follow(parent_BW)).append(code_BW)
            path_BWt = cache.path_BWt
        x_BWD = self.fuse(trunk_BTD[:, None, level], self.embed_previous(path_BWt))
        h_BW1D, steps = self._tail(x_BWD[:, :, None], state, Sight.of(state), cache)
        return self.norm(h_BW1D[:, :, 0]), TailCache(steps.layers, path_BWt)

    def embed_previous(self, path_nt: Tensor | None) -> Tensor:
        """s_{t-1} [..., D] after the codes [..., t - 1] (BOS [D] after none).

        With `path_codes`, from the third step on the last code's embedding comes with its path's: residual codes, and
        hashed ones even more, mean something else under every prefix.
        """
        if path_nt is None:
            bos_D: Tensor = self.steps()[1]
            return bos_D
        level = path_nt.shape[-1]
        code: Tensor = self.codes[level - 1](path_nt[..., -1])
        return code + self.context.embed_path(path_nt) if self.config.path_codes and level > 1 else code

    def forward(self, batch: TrainBatch, mtp: bool = True, ecpm: bool = True) -> dict[str, Tensor]:
        """See `train_losses`."""
        return self.train_losses(batch, mtp, ecpm)

    def train_losses(self, batch: TrainBatch, mtp: bool = True, ecpm: bool = True) -> dict[str, Tensor]:
        """Negative log-likelihoods in nats, each float32 [B, P, M] and unweighted (GR4AD 1.5).

        `sid`: L_SID of the target's code path, teacher forced. `ecpm`: L_eCPM, 0 where the bucket is unknown; absent,
        and its step left out, when `ecpm` is false: for logs without values.
        `mtp`: L_MTP, the same codes predicted by the tail from the trunk alone; absent when `mtp` is false.
        `level` [T, B, P, M] are the terms of `sid`.
        """
        return self.path_losses(self.encode(batch.context, Prefixes.of(batch)), batch, mtp, ecpm)

    def path_losses(self, state: ContextState, batch: TrainBatch, mtp: bool, ecpm: bool) -> dict[str, Tensor]:
        """`train_losses` of contexts that are encoded already."""
        P, T = batch.code_BPMT.shape[1], batch.code_BPMT.shape[-1]
        steps = T + 1 if ecpm else T
        visible_BP = None if self.config.reads_hsd else batch.visible_BP
        if visible_BP is None and P > 1:
            raise ValueError("tokens of HSD know each other: each prefix needs a context of its own")

        def sight(queries: int) -> Sight:
            return Sight.of(state, visible_BP, queries if P > 1 else 1)

        trunk_BPTD = self._trunk(state, sight(steps), P, steps)
        first_BPD, h_tBPMD = self._teacher_forced(trunk_BPTD, batch.code_BPMT, state, sight)
        prior = self._teacher_prior(state, batch)
        level = [shared_nll(self.head(0, first_BPD) + prior[0], batch.code_BPMT[..., 0], self.smoothing)]
        level += [
            negative_log_likelihood(self.head(t, h_tBPMD[t - 1]) + prior[t], batch.code_BPMT[..., t], self.smoothing)
            for t in range(1, T)
        ]
        level_TBPM = torch.stack(level)
        losses = {"sid": level_TBPM.sum(0), "level": level_TBPM}
        if ecpm:
            nll = negative_log_likelihood(self.head(T, h_tBPMD[T - 1]), batch.bucket_BPM.clamp_min(0))
            losses["ecpm"] = nll * (batch.bucket_BPM >= 0)
        if mtp:
            losses["mtp"] = self._mtp(trunk_BPTD, state, sight(T), batch.code_BPMT)
        return losses

    def _teacher_forced(
        self, trunk_BPTD: Tensor, code_BPMT: Tensor, state: ContextState, sight: Callable[[int], Sight]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(h of the first step [B, P, D], h of the steps behind it, each [B, P, M, D]).

        The first step follows BOS whatever the target: it runs once a prefix, and its self-attention keys are shared.
        """
        B, P, M = code_BPMT.shape[:3]
        later = trunk_BPTD.shape[2] - 1
        first_BP1D, cache = self._tail(self.fuse(trunk_BPTD[:, :, :1], self.embed_previous(None)), state, sight(1))
        shared = tuple((key.repeat_interleave(M, 1), value.repeat_interleave(M, 1)) for key, value in cache.layers)
        previous_BPMTD = torch.stack([self.embed_previous(code_BPMT[..., : t + 1]) for t in range(later)], dim=-2)
        x_BPMTD = self.fuse(trunk_BPTD[:, :, None, 1:], previous_BPMTD)
        h_BQTD, _ = self._tail(x_BPMTD.flatten(1, 2), state, sight(M * later), TailCache(shared))
        return self.norm(first_BP1D[:, :, 0]), self.norm(h_BQTD).view(B, P, M, later, -1).unbind(3)

    def _teacher_prior(self, state: ContextState, batch: TrainBatch) -> list[Tensor]:
        """The priors' logits of every level: [B, P, V] of the first, [B, P, M, V] of the others; 0 without one."""
        B, P, M, T = batch.code_BPMT.shape
        if not state.votes:
            return [torch.zeros((), device=state.mask_BS.device)] * T
        place_S = torch.arange(state.mask_BS.shape[1], device=state.mask_BS.device)
        seen_BPS = place_S < batch.visible_BP[:, :, None] if P > 1 else None
        seen_BQS = None if seen_BPS is None else seen_BPS.repeat_interleave(M, dim=1)
        first = self.prior(0, state, batch.code_BPMT[:, :, 0, :0], seen_BPS)
        path_BQT = batch.code_BPMT.flatten(1, 2)
        rest = [self.prior(t, state, path_BQT[..., :t], seen_BQS).view(B, P, M, -1) for t in range(1, T)]
        return [first, *rest]

    def _mtp(self, trunk_BPTD: Tensor, state: ContextState, sight: Sight, code_BPMT: Tensor) -> Tensor:
        """L_MTP [B, P, M]: Fuse is skipped, so one tail pass a prefix answers for all its targets."""
        T = code_BPMT.shape[-1]
        h_BPTD, _ = self._tail(trunk_BPTD[:, :, :T], state, sight)
        h_tBPD = self.norm(h_BPTD).unbind(2)
        return torch.stack(
            [shared_nll(self.head(t, h_tBPD[t]), code_BPMT[..., t], self.smoothing) for t in range(T)]
        ).sum(0)

    def _trunk(self, state: ContextState, sight: Sight, prefixes: int, steps: int | None = None) -> Tensor:
        """m^(K) [B, P, T+1, D], or of the first `steps` steps."""
        x_TD = self.steps()[0][:steps]
        x: Tensor = x_TD.expand(len(state.mask_BS), prefixes, *x_TD.shape)
        for index in range(self.config.lazy_layers):
            x, _ = self._block(index, x, state, sight)
        return x

    def _tail(
        self, x_BQtD: Tensor, state: ContextState, sight: Sight, cache: TailCache | None = None
    ) -> tuple[Tensor, TailCache]:
        """Layers K+1..L."""
        steps: list[StepCache] = []
        for index in range(self.config.lazy_layers, self.config.layers):
            past = cache.layers[len(steps)] if cache else None
            x_BQtD, step = self._block(index, x_BQtD, state, sight, past)
            steps.append(step)
        return x_BQtD, TailCache(tuple(steps))

    def _context_of(self, index: int, state: ContextState) -> tuple[Tensor, Tensor]:
        """Keys and values that layer `index` reads: group floor(index * L_kv / L)."""
        return state.layers[index * self.config.context_kv_groups // self.config.layers]

    def _block(
        self, index: int, x_BQtD: Tensor, state: ContextState, sight: Sight, past: StepCache | None = None
    ) -> tuple[Tensor, StepCache]:
        """Layer `index`."""
        arguments = (x_BQtD, *self._context_of(index, state), self._bias_of(index, sight), past)
        block: Callable[..., tuple[Tensor, StepCache]] = self.blocks[index]
        if self.activation_checkpointing and torch.is_grad_enabled():
            answer: tuple[Tensor, StepCache] = checkpoint(block, *arguments, use_reentrant=False)
            return answer
        return block(*arguments)

    def _bias_of(self, index: int, sight: Sight) -> Tensor:
        """What layer `index` adds to its attention scores."""
        if sight.age_BPS is None:
            return sight.bias
        recency: Tensor = self.recency[index](sight.age_BPS, sight.queries)
        return sight.bias + recency


def parameter_count(model: nn.Module) -> int:
    """Number of trainable numbers; tied tables count once."""
    return sum(parameter.numel() for parameter in model.parameters())
