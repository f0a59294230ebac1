"""One step of LazyAR for all beams of a batch: the arithmetic of the search.

The context's keys and values exist once a request and the beams lie on the query axis; the trunk runs once for all
steps; a beam's own past is at most T + 1 positions, fetched by row number from what earlier steps wrote, which nobody
reorders. Large results go to buffers that outlive the batch.

Shapes: B requests, R rows, W beams of a request, T levels, D width, H heads, G context heads, S context, d head width.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from adbeam.decoding.engines.buffers import Buffers, StepStore
from adbeam.decoding.engines.context_reader import reader_of
from adbeam.decoding.engines.precision import Precision, dtype_of
from adbeam.decoding.engines.prior_votes import BeamVotes
from adbeam.decoding.engines.self_attention import attend_own_past, compiled_or_plain, in_blocks
from adbeam.decoding.engines.weights import LayerWeights, SearchWeights
from adbeam.decoding.layout import Group, Layout
from adbeam.features.batch import ContextBatch
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR
from adbeam.model.recency import ages


class StepModel(Protocol):
    """What the search asks of a model; any model that offers this can be searched and served."""

    config: ModelConfig
    device: torch.device
    multiple: int
    """Batches and beams are rounded up to multiples of this, so that shapes repeat (1: they are not)."""

    def beside(self) -> StepModel:
        """The same model for another thread: weights shared, working memory of its own."""

    def begin(self, context: ContextBatch) -> Any:
        """Read the contexts; the answer is handed to every later call."""

    def step(self, state: Any, level: int, code_R: Tensor | None, parent_R: Tensor | None, layout: Layout) -> Tensor:
        """h [R, D] after the codes chosen last; `parent_R` are the rows of the previous step that they extend."""

    def logits(self, state: Any, level: int, h_RD: Tensor) -> Tensor:
        """float32 [R, V] of one level; level T gives the eCPM buckets. The next call may write over it."""


@dataclass
class LazyARState:
    """One batch under way."""

    key_BLGSd: Tensor
    value_BLGSd: Tensor
    bias_BS: Tensor | None
    trunk_BTD: Tensor
    votes: BeamVotes | None = None
    age_BS: Tensor | None = None
    """Ages of the context's tokens, where the model has a recency bias."""
    path_Rt: Tensor | None = None
    """Codes of the present rows so far, kept for models with path codes; None before the first."""
    row_tR: Tensor | None = None
    """Per step so far, the row of the store from which each present row descends; the last are the rows themselves."""


class LazyAREngine:
    """LazyAR (and with K = 0 the plain decoder) as a StepModel. One batch at a time.

    `compiled` fuses the small operations of self-attention with torch.compile. It costs some tens of seconds when the
    first batch of each kind comes; where compiling fails the engine says so in the log and goes on without.
    """

    multiple = 1

    def __init__(self, model: LazyAR, precision: Precision = "float32", compiled: bool = False) -> None:
        self.model = model.eval()
        self.config, self.precision = model.config, precision
        self.device = next(model.parameters()).device
        self.weights = SearchWeights.of(model, precision)
        self._read_contexts = reader_of(model)
        self._attend = compiled_or_plain(attend_own_past) if compiled else attend_own_past
        self._take_memory()

    def beside(self) -> LazyAREngine:
        """The same engine for another thread: weights shared, buffers of its own."""
        engine = copy.copy(self)
        engine._take_memory()
        return engine

    def _take_memory(self) -> None:
        config, dtype = self.config, dtype_of(self.precision)
        self._buffers = Buffers(dtype, self.device)
        self._store = StepStore(config.layers - config.lazy_layers, 3 * config.width, dtype, self.device)

    def begin(self, context: ContextBatch) -> LazyARState:
        """Read the contexts and run the trunk for all steps."""
        whole = self.multiple > 1
        state = self._read_contexts(context, whole)
        dtype = dtype_of(self.precision)
        bias_BS = None
        if whole or not bool(state.mask_BS.all()):
            bias_BS = torch.zeros(state.mask_BS.shape, dtype=dtype, device=self.device)
            bias_BS.masked_fill_(~state.mask_BS, float("-inf"))
        self._store.clear()
        trunk = self.weights.position_TD.expand(context.size, -1, -1)
        votes = BeamVotes.of(state.votes)
        age_BS = None if state.order_BS is None else ages(state.order_BS)[:, 0]
        key = state.key_BLGSd.to(dtype)
        value = key if state.value_BLGSd is state.key_BLGSd else state.value_BLGSd.to(dtype)
        ready = LazyARState(key, value, bias_BS, trunk, votes, age_BS)
        ready.trunk_BTD = self._trunk(ready)
        return ready

    def step(
        self, state: LazyARState, level: int, code_R: Tensor | None, parent_R: Tensor | None, layout: Layout
    ) -> Tensor:
        """h [R, D] ready for `logits(level, h)`."""
        first = self._store.append(layout.rows)
        row_tR = torch.arange(first, first + layout.rows, device=self.device)[None]
        if parent_R is not None and code_R is not None and state.row_tR is not None:
            self._follow(state, level, code_R, parent_R)
            row_tR = torch.cat([state.row_tR.index_select(1, parent_R), row_tR])
        state.row_tR = row_tR
        return self._tail(self._inject(state, level, code_R, layout), row_tR, state, layout)

    def _tail(self, x_RD: Tensor, row_tR: Tensor, state: LazyARState, layout: Layout) -> Tensor:
        """Layers K+1..L and the last norm: [R, D]. Writes over x."""
        for index, layer in enumerate(self.weights.layers[self.config.lazy_layers :]):
            self._cross(x_RD, layer, state, layout)
            self._own_past(x_RD, layer, self._store.layer(index), row_tR)
            self._feed_forward(x_RD, layer)
        return F.layer_norm(x_RD, x_RD.shape[-1:], *self.weights.norm)

    def logits(self, state: LazyARState, level: int, h_RD: Tensor) -> Tensor:
        """float32 [R, V]."""
        head_DV = self.weights.heads[level]
        if self.config.cosine_temperature is not None and level < self.config.levels:
            h_RD = F.normalize(h_RD, dim=-1)
        logits_RV = torch.mm(h_RD, head_DV, out=self._buffers.take("logits", len(h_RD), head_DV.shape[1])).float()
        if state.votes is not None and level < self.config.levels:
            state.votes.add_to(logits_RV, level)
        return logits_RV

    def _follow(self, state: LazyARState, level: int, code_R: Tensor, parent_R: Tensor) -> None:
        """Let what belongs to prefixes go with the beams that took them."""
        if state.votes is not None and level < self.config.levels:
            state.votes.follow(parent_R, code_R, level - 1, self.config.codebooks[level - 1])
        if self.weights.path_tables is not None:
            earlier = [] if state.path_Rt is None else [state.path_Rt[parent_R]]
            state.path_Rt = torch.cat([*earlier, code_R[:, None]], dim=1)

    def _inject(self, state: LazyARState, level: int, code_R: Tensor | None, layout: Layout) -> Tensor:
        """Fuse(m, s) of every row."""
        weights = self.weights
        if code_R is None:
            code_R = torch.zeros(layout.rows, dtype=torch.long, device=self.device)
        gated_RD = weights.gate_tables[level].index_select(0, code_R)
        injected_RD = weights.inject_tables[level].index_select(0, code_R)
        if weights.path_tables is not None and state.path_Rt is not None and level > 1:
            row_R = self.model.context.path_row(state.path_Rt)
            gated_RD += weights.path_tables[0][row_R]
            injected_RD += weights.path_tables[1][row_R]
        for group in layout.groups:
            group.view(gated_RD).mul_(state.trunk_BTD[group.of_requests, None, level])
        return injected_RD.addmm_(gated_RD, weights.fuse_DD)

    def _cross(self, x_RD: Tensor, layer: LayerWeights, state: LazyARState, layout: Layout) -> None:
        """x += attention of the W queries of each request to its one copy of keys and values."""
        R, D = x_RD.shape
        query_RD = self._buffers.take("query", R, D)
        layer.cross_query.into(query_RD, F.layer_norm(x_RD, (D,), *layer.cross_norm))
        layer.cross_out.add_to(x_RD, self._read_context(query_RD, layer, state, layout))

    def _read_context(self, query_RD: Tensor, layer: LayerWeights, state: LazyARState, layout: Layout) -> Tensor:
        mixed = [self._read_group(group.view(query_RD), layer, state, group) for group in layout.groups]
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)

    def _read_group(self, query_BWD: Tensor, layer: LayerWeights, state: LazyARState, group: Group) -> Tensor:
        key_BGSd = state.key_BLGSd[group.of_requests, layer.context_group]
        value_BGSd = state.value_BLGSd[group.of_requests, layer.context_group]
        bias = None if state.bias_BS is None else state.bias_BS[group.of_requests, None, None]
        if layer.recency_GA is not None and state.age_BS is not None:
            recency_BG1S = layer.recency_GA[:, state.age_BS[group.of_requests]].transpose(0, 1)[:, :, None]
            bias = recency_BG1S if bias is None else bias + recency_BG1S
        B, W, D = query_BWD.shape
        G, d = key_BGSd.shape[1], key_BGSd.shape[3]
        # Heads that read the same keys lie on the query axis too, beside the beams (LayerWeights orders them so).
        query = query_BWD.view(B, -1, G, d).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key_BGSd, value_BGSd, attn_mask=bias, scale=1.0)
        return mixed.transpose(1, 2).reshape(B * W, D)

    def _own_past(self, x_RD: Tensor, layer: LayerWeights, store: Tensor, row_tR: Tensor) -> None:
        """x += attention of each row to its own earlier steps and itself."""
        R, D = x_RD.shape
        first = self._store.used - R
        project_R3D = store[first : self._store.used]
        layer.self_project.into(project_R3D, F.layer_norm(x_RD, (D,), *layer.self_norm))
        if len(row_tR) == 1:
            mixed_RD = project_R3D[:, 2 * D :]
        else:
            mixed_RD = in_blocks(self._attend, project_R3D[:, :D], store[:, D:], row_tR, self.config.heads)
        layer.self_out.add_to(x_RD, mixed_RD)

    def _feed_forward(self, x_RD: Tensor, layer: LayerWeights) -> None:
        """x += the feed-forward network."""
        R, D = x_RD.shape
        up = self._buffers.take("up", R, self.config.ffn_multiple * D)
        layer.ffn_up.into(up, F.layer_norm(x_RD, (D,), *layer.ffn_norm))
        layer.ffn_out.add_to(x_RD, torch.ops.aten.gelu_(up))

    def _trunk(self, state: LazyARState) -> Tensor:
        """m^(K) [B, T+1, D]: layers 1..K for all steps in one pass, without any code (GR4AD eq 5-6)."""
        B, steps, D = state.trunk_BTD.shape
        layout = Layout.of([B], [steps], self.device)
        x = state.trunk_BTD.reshape(B * steps, D).clone()
        project = self._buffers.take("project", B * steps, 3 * D)
        for layer in self.weights.layers[: self.config.lazy_layers]:
            self._cross(x, layer, state, layout)
            layer.self_project.into(project, F.layer_norm(x, (D,), *layer.self_norm))
            layer.self_out.add_to(x, self._causal(project.view(B, steps, 3, self.config.heads, -1)))
            self._feed_forward(x, layer)
        return x.view(B, steps, D)

    def _causal(self, project_BT3Hd: Tensor) -> Tensor:
        """Causal self-attention over the steps of the trunk: [B * (T+1), D]."""
        query, key, value = project_BT3Hd.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
        return mixed.transpose(1, 2).reshape(len(project_BT3Hd) * project_BT3Hd.shape[1], -1)
