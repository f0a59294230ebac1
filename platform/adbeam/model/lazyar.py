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
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.model.batch import ContextBatch, TrainBatch
from adbeam.model.codes import CodeTable, Fuse, LevelEmbedding
from adbeam.model.config import ModelConfig
from adbeam.model.context import ContextProcessor, ContextState
from adbeam.model.layers import Block, StepCache


@dataclass(frozen=True)
class TailCache:
    """Self-attention keys and values of the tail's earlier steps, per layer [B, W, H, t, d]."""

    layers: tuple[StepCache, ...]

    def follow(self, parent_BW: Tensor) -> Self:
        """The cache of the beams that descend from beams `parent_BW`."""
        row_B1 = torch.arange(parent_BW.shape[0], device=parent_BW.device)[:, None]
        return type(self)(tuple((key[row_B1, parent_BW], value[row_B1, parent_BW]) for key, value in self.layers))


class LazyAR(nn.Module):
    """The model. `forward` is `train_losses`, so that a training engine can wrap it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.codes = nn.ModuleList(CodeTable(size, config.width) for size in config.codebooks)
        self.ecpm_head = nn.Linear(config.width, config.ecpm_buckets, bias=False)
        self.context = ContextProcessor(config)
        self.steps = LevelEmbedding(config.levels + 1, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.fuse = Fuse(config.width)
        self.norm = nn.LayerNorm(config.width)
        self.initialise()

    def initialise(self) -> None:
        """Draw all weights anew: variance 1/fan-in, layers' outputs smaller the more layers add to the stream."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                scale = (2 * self.config.layers) ** -0.5 if name.endswith(".out") else 1.0
                nn.init.normal_(module.weight, std=scale * module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, CodeTable | nn.EmbeddingBag):
                nn.init.normal_(module.weight, std=self.config.width**-0.5)
        nn.init.normal_(self.steps.position, std=1.0)
        nn.init.normal_(self.steps.bos, std=self.config.width**-0.5)

    def encode(self, context: ContextBatch) -> ContextState:
        """Keys and values of B contexts, to be used by every later call."""
        return self.context(context, self.codes)

    def trunk(self, state: ContextState) -> Tensor:
        """m^(K) [B, T+1, D]: layers 1..K of every step in one pass, without any code (GR4AD eq 5-6)."""
        return self._trunk(state, state.bias(), prefixes=1)[:, 0]

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
        if cache is not None and parent_BW is not None:
            cache = cache.follow(parent_BW)
        x_BW1D = self.fuse(trunk_BTD[:, None, level], self.embed_previous(level, code_BW))[:, :, None]
        x_BW1D, cache = self._tail(x_BW1D.expand(len(trunk_BTD), -1, -1, -1), state, state.bias(), cache)
        return self.norm(x_BW1D[:, :, 0]), cache

    def embed_previous(self, level: int, code_BW: Tensor | None) -> Tensor:
        """Embedding s_{t-1} [B, W, D] of the codes chosen before `level`; BOS [1, 1, D] at level 0."""
        if level == 0:
            return self.steps()[1][None, None]
        return self.codes[level - 1](code_BW)

    def head(self, level: int, h: Tensor, column_C: Tensor | None = None) -> Tensor:
        """Logits [..., V_level] of states [..., D]; level T gives the eCPM buckets. `column_C` computes only these."""
        if level == self.config.levels:
            return self.ecpm_head(h)
        return self.codes[level](h, head=True, column_C=column_C)

    def forward(self, batch: TrainBatch, mtp: bool = True) -> dict[str, Tensor]:
        """See `train_losses`."""
        return self.train_losses(batch, mtp)

    def train_losses(self, batch: TrainBatch, mtp: bool = True) -> dict[str, Tensor]:
        """Negative log-likelihoods in nats, each float32 [B, P, M] and unweighted (GR4AD 1.5).

        `sid`: L_SID of the target's code path, teacher forced. `ecpm`: L_eCPM, 0 where the bucket is unknown.
        `mtp`: L_MTP, the same codes predicted by the tail from the trunk alone; absent when `mtp` is false.
        `level` [T, B, P, M] are the terms of `sid`.
        """
        P, T = batch.code_BPMT.shape[1], batch.code_BPMT.shape[-1]
        state = self.encode(batch.context)

        def bias(queries: int) -> Tensor:
            return state.bias(batch.visible_BP, queries if P > 1 else 1)

        trunk_BPTD = self._trunk(state, bias(T + 1), P)
        first_BPD, h_tBPMD = self._teacher_forced(trunk_BPTD, batch.code_BPMT, state, bias)
        level = [_shared_nll(self.head(0, first_BPD), batch.code_BPMT[..., 0])]
        level += [_nll(self.head(t, h_tBPMD[t - 1]), batch.code_BPMT[..., t]) for t in range(1, T)]
        known_BPM = batch.bucket_BPM >= 0
        ecpm = _nll(self.head(T, h_tBPMD[T - 1]), batch.bucket_BPM.clamp_min(0)) * known_BPM
        level_TBPM = torch.stack(level)
        losses = {"sid": level_TBPM.sum(0), "ecpm": ecpm, "level": level_TBPM}
        if mtp:
            losses["mtp"] = self._mtp(trunk_BPTD, state, bias(T), batch.code_BPMT)
        return losses

    def _teacher_forced(
        self, trunk_BPTD: Tensor, code_BPMT: Tensor, state: ContextState, bias: Callable[[int], Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(h of the first step [B, P, D], h of steps 1..T, each [B, P, M, D]).

        The first step follows BOS whatever the target: it runs once a prefix, and its self-attention keys are shared.
        """
        B, P, M, T = code_BPMT.shape
        bos_11D = self.embed_previous(0, None)
        first_BP1D, cache = self._tail(self.fuse(trunk_BPTD[:, :, :1], bos_11D), state, bias(1))
        shared = tuple((key.repeat_interleave(M, 1), value.repeat_interleave(M, 1)) for key, value in cache.layers)
        previous_BPMTD = torch.stack([table(code_BPMT[..., t]) for t, table in enumerate(self.codes)], dim=-2)
        x_BPMTD = self.fuse(trunk_BPTD[:, :, None, 1:], previous_BPMTD)
        h_BQTD, _ = self._tail(x_BPMTD.flatten(1, 2), state, bias(M * T), TailCache(shared))
        return self.norm(first_BP1D[:, :, 0]), self.norm(h_BQTD).view(B, P, M, T, -1).unbind(3)

    def _mtp(self, trunk_BPTD: Tensor, state: ContextState, bias: Tensor, code_BPMT: Tensor) -> Tensor:
        """L_MTP [B, P, M]: Fuse is skipped, so one tail pass a prefix answers for all its targets."""
        T = code_BPMT.shape[-1]
        h_BPTD, _ = self._tail(trunk_BPTD[:, :, :T], state, bias)
        h_tBPD = self.norm(h_BPTD).unbind(2)
        return torch.stack([_shared_nll(self.head(t, h_tBPD[t]), code_BPMT[..., t]) for t in range(T)]).sum(0)

    def _trunk(self, state: ContextState, bias: Tensor, prefixes: int) -> Tensor:
        """m^(K) [B, P, T+1, D]."""
        x_TD = self.steps()[0]
        x = x_TD.expand(len(state.mask_BS), prefixes, *x_TD.shape)
        for index in range(self.config.lazy_layers):
            x, _ = self.blocks[index](x, *self._context_of(index, state), bias)
        return x

    def _tail(
        self, x_BQtD: Tensor, state: ContextState, bias: Tensor, cache: TailCache | None = None
    ) -> tuple[Tensor, TailCache]:
        """Layers K+1..L."""
        steps: list[StepCache] = []
        for index in range(self.config.lazy_layers, self.config.layers):
            past = cache.layers[len(steps)] if cache else None
            x_BQtD, step = self.blocks[index](x_BQtD, *self._context_of(index, state), bias, past)
            steps.append(step)
        return x_BQtD, TailCache(tuple(steps))

    def _context_of(self, index: int, state: ContextState) -> tuple[Tensor, Tensor]:
        """Keys and values that layer `index` reads: group floor(index * L_kv / L)."""
        return state.layers[index * self.config.context_kv_groups // self.config.layers]


def parameter_count(model: nn.Module) -> int:
    """Number of trainable numbers; tied tables count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _nll(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in float32, of logits [..., V] and targets [...]."""
    loss = F.cross_entropy(logits.flatten(0, -2).float(), target.flatten(), reduction="none")
    return loss.view(target.shape)


def _shared_nll(logits_BPV: Tensor, code_BPM: Tensor) -> Tensor:
    """Cross-entropy [B, P, M] where all targets of a prefix have the same logits."""
    return -F.log_softmax(logits_BPV.float(), dim=-1).gather(-1, code_BPM)
