"""One step of LazyAR for all beams of a batch: the arithmetic of the search.

The context's keys and values exist once a request and the beams lie on the query axis; the trunk runs once for all
steps; a beam's own past is at most T + 1 positions, fetched by pointer from the outputs of earlier steps, which nobody
reorders.

Shapes: B requests, R rows, W beams of a request, T levels, D width, H heads, G context heads, S context, d head width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from adbeam.decoding.history_votes import HistoryVotes
from adbeam.decoding.layout import Group, Layout
from adbeam.decoding.precision import Precision, dtype_of
from adbeam.decoding.weights import LayerWeights, SearchWeights
from adbeam.model.batch import ContextBatch
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR

logger = logging.getLogger(__name__)


class StepModel(Protocol):
    """What the search asks of a model; any model that offers this can be searched and served."""

    config: ModelConfig
    device: torch.device

    def begin(self, context: ContextBatch) -> Any:
        """Read the contexts; the answer is handed to every later call."""

    def step(self, state: Any, level: int, code_R: Tensor | None, parent_R: Tensor | None, layout: Layout) -> Tensor:
        """h [R, D] after the codes chosen last; `parent_R` are the rows of the previous step that they extend."""

    def logits(self, state: Any, level: int, h_RD: Tensor) -> Tensor:
        """float32 [R, V] of one level; level T gives the eCPM buckets."""


@dataclass
class LazyARState:
    """One batch under way."""

    key_BLGSd: Tensor
    value_BLGSd: Tensor
    bias_BS: Tensor | None
    trunk_BTD: Tensor
    votes: HistoryVotes | None = None
    path_Rt: Tensor | None = None
    """Codes of the present rows so far; None before the first."""
    past: list[list[Tensor]] = field(default_factory=list)
    """[step][tail layer]: queries, keys and values [rows of that step, 3D]."""
    ancestor: list[Tensor] = field(default_factory=list)
    """Per earlier step, the row there from which each present row descends."""


class LazyAREngine:
    """LazyAR (and with K = 0 the plain decoder) as a StepModel.

    `compiled` fuses the small operations of self-attention with torch.compile. It costs some tens of seconds when the
    first batch of each kind comes; where compiling fails the engine says so in the log and goes on without.
    """

    def __init__(self, model: LazyAR, precision: Precision = "float32", compiled: bool = False) -> None:
        self.model = model.eval()
        self.config, self.precision = model.config, precision
        self.device = next(model.parameters()).device
        self.weights = SearchWeights.of(model, precision)
        self._attend = compiled_or_plain(attend_own_past) if compiled else attend_own_past

    def begin(self, context: ContextBatch) -> LazyARState:
        """Encode the contexts and run the trunk for all steps."""
        state = self.model.encode(context)
        mask_BS, key_BLGSd, value_BLGSd = state.mask_BS, state.key_BLGSd, state.value_BLGSd
        present_S = mask_BS.any(0)
        bias_BS = None
        if not bool(present_S.all()):
            # Places where no request of the batch has a token cost nothing.
            kept = present_S.nonzero()[:, 0]
            tied = value_BLGSd is key_BLGSd
            mask_BS, key_BLGSd = mask_BS[:, kept], key_BLGSd.index_select(3, kept)
            value_BLGSd = key_BLGSd if tied else value_BLGSd.index_select(3, kept)
        if not bool(mask_BS.all()):
            bias_BS = torch.zeros(mask_BS.shape, device=self.device).masked_fill_(~mask_BS, float("-inf"))
        dtype = dtype_of(self.precision)
        key_BLGSd, value_BLGSd = key_BLGSd.to(dtype), value_BLGSd.to(dtype)
        bias_BS = None if bias_BS is None else bias_BS.to(dtype)
        trunk = self.weights.position_TD.expand(context.size, -1, -1)
        votes = HistoryVotes.of(state.code_BST, state.weight_BST)
        ready = LazyARState(key_BLGSd, value_BLGSd, bias_BS, trunk, votes)
        ready.trunk_BTD = self._trunk(ready)
        return ready

    def step(
        self, state: LazyARState, level: int, code_R: Tensor | None, parent_R: Tensor | None, layout: Layout
    ) -> Tensor:
        """h [R, D] ready for `logits(level, h)`."""
        if state.votes is not None and parent_R is not None and code_R is not None and level < self.config.levels:
            state.votes.follow(parent_R, code_R, level - 1, self.config.codebooks[level - 1])
        if parent_R is not None and code_R is not None:
            earlier = [] if state.path_Rt is None else [state.path_Rt[parent_R]]
            state.path_Rt = torch.cat([*earlier, code_R[:, None]], dim=1)
            state.ancestor = [rows[parent_R] for rows in state.ancestor] + [parent_R]
        x_RD = self._inject(state, level, code_R, layout)
        state.past.append([])
        for layer in self.weights.layers[self.config.lazy_layers :]:
            x_RD = self._layer(x_RD, layer, state, layout)
        return F.layer_norm(x_RD, x_RD.shape[-1:], *self.weights.norm)

    def logits(self, state: LazyARState, level: int, h_RD: Tensor) -> Tensor:
        """float32 [R, V]."""
        logits_RV = F.linear(h_RD, self.weights.heads[level]).float()
        if state.votes is not None and level < self.config.levels:
            state.votes.add_to(logits_RV, level)
        return logits_RV

    def _inject(self, state: LazyARState, level: int, code_R: Tensor | None, layout: Layout) -> Tensor:
        """Fuse(m, s) of every row."""
        weights = self.weights
        if code_R is None:
            code_R = torch.zeros(layout.rows, dtype=torch.long, device=self.device)
        gated_RD, injected_RD = weights.gate_tables[level][code_R], weights.inject_tables[level][code_R]
        if weights.path_tables is not None and state.path_Rt is not None and level > 1:
            row_R = self.model.context.path_row(state.path_Rt)
            gated_RD += weights.path_tables[0][row_R]
            injected_RD += weights.path_tables[1][row_R]
        for group in layout.groups:
            group.view(gated_RD).mul_(state.trunk_BTD[group.of_requests, None, level])
        return injected_RD.addmm_(gated_RD, weights.fuse_DD.T)

    def _layer(self, x_RD: Tensor, layer: LayerWeights, state: LazyARState, layout: Layout) -> Tensor:
        """One decoder layer; x_RD is overwritten with its answer. Residual sums happen inside the matrix products."""
        width = x_RD.shape[-1:]
        query_RD = layer.cross_query(F.layer_norm(x_RD, width, *layer.cross_norm))
        mixed_RD = self._cross(query_RD, layer, state, layout)
        layer.cross_out.add_to(x_RD, mixed_RD)
        project_R3D = layer.self_project(F.layer_norm(x_RD, width, *layer.self_norm))
        index = len(state.past[-1])
        past = [step[index] for step in state.past[:-1]]
        state.past[-1].append(project_R3D)
        layer.self_out.add_to(x_RD, self._attend(project_R3D, past, state.ancestor, self.config.heads))
        up = layer.ffn_up(F.layer_norm(x_RD, width, *layer.ffn_norm))
        return layer.ffn_out.add_to(x_RD, torch.ops.aten.gelu_(up))

    def _cross(self, query_RD: Tensor, layer: LayerWeights, state: LazyARState, layout: Layout) -> Tensor:
        """Attention of the W queries of each request to its one copy of keys and values: [R, D]."""
        mixed = [self._cross_group(group.view(query_RD), layer, state, group) for group in layout.groups]
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)

    def _cross_group(self, query_BWD: Tensor, layer: LayerWeights, state: LazyARState, group: Group) -> Tensor:
        key_BGSd = state.key_BLGSd[group.of_requests, layer.context_group]
        value_BGSd = state.value_BLGSd[group.of_requests, layer.context_group]
        bias = None if state.bias_BS is None else state.bias_BS[group.of_requests, None, None]
        B, W, D = query_BWD.shape
        G, d = key_BGSd.shape[1], key_BGSd.shape[3]
        # Heads that read the same keys lie on the query axis too, beside the beams.
        query = query_BWD.view(B, W, G, -1, d).permute(0, 2, 1, 3, 4).reshape(B, G, -1, d)
        mixed = F.scaled_dot_product_attention(query, key_BGSd, value_BGSd, attn_mask=bias, scale=1.0)
        return mixed.view(B, G, W, -1, d).permute(0, 2, 1, 3, 4).reshape(B * W, D)

    def _trunk(self, state: LazyARState) -> Tensor:
        """m^(K) [B, T+1, D]: layers 1..K for all steps in one pass, without any code (GR4AD eq 5-6)."""
        B, steps, D = state.trunk_BTD.shape
        layout = Layout.of([B], [steps], self.device)
        x = state.trunk_BTD.reshape(B * steps, D).clone()
        for layer in self.weights.layers[: self.config.lazy_layers]:
            query = layer.cross_query(F.layer_norm(x, (D,), *layer.cross_norm))
            layer.cross_out.add_to(x, self._cross(query, layer, state, layout))
            project = layer.self_project(F.layer_norm(x, (D,), *layer.self_norm))
            layer.self_out.add_to(x, self._causal(project.view(B, steps, 3, self.config.heads, -1)))
            up = layer.ffn_up(F.layer_norm(x, (D,), *layer.ffn_norm))
            layer.ffn_out.add_to(x, torch.ops.aten.gelu_(up))
        return x.view(B, steps, D)

    def _causal(self, project_BT3Hd: Tensor) -> Tensor:
        """Causal self-attention over the steps of the trunk: [B * (T+1), D]."""
        query, key, value = project_BT3Hd.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
        return mixed.transpose(1, 2).flatten(0, 1).flatten(1)


def attend_own_past(project_R3D: Tensor, past: list[Tensor], ancestor: list[Tensor], heads: int) -> Tensor:
    """Self-attention of each row over its own earlier steps and itself: [R, D].

    `past` are queries, keys and values [rows of that step, 3D] of one layer at each earlier step, in the order of
    their own beams; `ancestor` are the rows there from which each present row descends.
    """
    R, D = len(project_R3D), project_R3D.shape[1] // 3
    if not past:
        return project_R3D[:, 2 * D :].contiguous()
    query, key, value = (part.view(R, heads, -1) for part in project_R3D.split(D, dim=1))
    fetched = [step[:, D:].index_select(0, rows) for step, rows in zip(past, ancestor, strict=True)]
    keys = [pair[:, :D].view(R, heads, -1) for pair in fetched] + [key]
    values = [pair[:, D:].view(R, heads, -1) for pair in fetched] + [value]
    share_RHt = torch.softmax(torch.stack([(query * k).sum(-1) for k in keys], dim=-1), dim=-1)
    mixed = values[0] * share_RHt[..., 0:1]
    for t, step_value in enumerate(values[1:], start=1):
        mixed = mixed.addcmul_(step_value, share_RHt[..., t : t + 1])
    return mixed.view(R, D)


def compiled_or_plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` compiled on first use, or itself, with a warning, where that fails."""
    faster: list[Callable[..., Tensor]] = [torch.compile(function, dynamic=True)]

    def call(*given: Any) -> Tensor:
        try:
            return faster[0](*given)
        except Exception as error:
            if faster[0] is function:
                raise
            logger.warning("torch.compile failed, searching without it: %s", str(error).splitlines()[0])
            faster[0] = function
            return function(*given)

    return call
