"""The weights of LazyAR laid out for search: contiguous, and what depends on a code alone computed once.

Fuse(m, s) = W_f [m * (W_g s); s] splits into W_f1 (m * g_s) + i_s with two tables over the codes, g = W_g s and
i = W_f2 s: a row of a search then pays one D x D product instead of three (GR4AD eq 7).

Shapes: V codebook, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from adbeam.decoding.engines.precision import Linear, Precision, dtype_of, linear
from adbeam.model.codes import unit
from adbeam.model.layers import Block
from adbeam.model.lazyar import LazyAR
from adbeam.model.recency import RecencyBias

Norm = tuple[Tensor, Tensor]
"""Gain and bias of a LayerNorm."""


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer."""

    cross_norm: Norm
    cross_query: Linear
    cross_out: Linear
    self_norm: Norm
    self_project: Linear
    self_out: Linear
    ffn_norm: Norm
    ffn_up: Linear
    ffn_out: Linear
    context_group: int
    recency_GA: Tensor | None = None
    """Bias of each context head for each age (model/recency.py)."""

    @classmethod
    def of(
        cls, block: Block, context_group: int, precision: Precision, recency: RecencyBias | None = None
    ) -> LayerWeights:
        """Weights of one block. Scores come ready scaled by 1/sqrt(head width) from the query weights.

        The heads of the cross-attention are ordered so that heads of one context head lie D / share apart: a beam and
        its place among them are then one axis of queries, and neither queries nor answers are ever copied.
        """
        scale = block.cross.head_width**-0.5
        query, out = block.cross.query, block.cross.out
        order_D = torch.arange(query.out_features, device=query.weight.device)
        order_D = order_D.view(block.cross.groups, -1, block.cross.head_width).transpose(0, 1).flatten()
        project = block.self_attention.project
        query_rows = torch.ones(project.out_features, device=project.weight.device)
        query_rows[: project.in_features] = scale
        return cls(
            cross_norm=_norm(block.cross_norm, precision),
            cross_query=linear(
                _copy(query.weight[order_D] * scale, torch.float32),
                _copy(query.bias[order_D] * scale, torch.float32),
                precision,
            ),
            cross_out=linear(_copy(out.weight[:, order_D], torch.float32), _copy(out.bias, torch.float32), precision),
            self_norm=_norm(block.self_norm, precision),
            self_project=_linear(project, precision, query_rows),
            self_out=_linear(block.self_attention.out, precision),
            ffn_norm=_norm(block.ffn_norm, precision),
            ffn_up=_linear(block.ffn.up, precision),
            ffn_out=_linear(block.ffn.out, precision),
            context_group=context_group,
            recency_GA=None if recency is None else _copy(recency.weight.T, dtype_of(precision)),
        )


@dataclass(frozen=True)
class SearchWeights:
    """Everything that a search reads of a model."""

    layers: tuple[LayerWeights, ...]
    position_TD: Tensor
    gate_tables: tuple[Tensor, ...]
    inject_tables: tuple[Tensor, ...]
    """Per step t: g and i [V, D] of the codes chosen before it (one row, BOS, at step 0)."""
    path_tables: tuple[Tensor, Tensor] | None
    """g and i of the paths (ContextProcessor.path_row), which add to those of the codes; None without path codes."""
    fuse_DD: Tensor
    """W_f1, inputs first."""
    norm: Norm
    heads: tuple[Tensor, ...]
    """[D, V] of each level, and the eCPM head."""

    @classmethod
    @torch.no_grad()
    def of(cls, model: LazyAR, precision: Precision = "float32") -> SearchWeights:
        """The weights of `model`. Later changes of the model are not seen."""
        config, dtype = model.config, dtype_of(precision)
        position, bos = model.steps()
        tables = [cast(Tensor, table.weight) for table in model.codes]
        paths = model.context.token_embedding.weight
        previous = [bos[None], *tables]
        first, second = torch.split(model.fuse.project.weight, config.width, dim=1)
        blocks = [cast(Block, block) for block in model.blocks]
        heads = [unit(table, config.cosine_temperature) for table in tables]
        none: list[RecencyBias | None] = [None] * config.layers
        biases = [cast(RecencyBias, bias) for bias in model.recency] or none
        groups = [place * config.context_kv_groups // config.layers for place in range(config.layers)]
        return cls(
            layers=tuple(LayerWeights.of(b, g, precision, r) for b, g, r in zip(blocks, groups, biases, strict=True)),
            position_TD=_copy(position, dtype),
            gate_tables=tuple(_copy(model.fuse.gate(table), dtype) for table in previous),
            inject_tables=tuple(_copy(table @ second.T, dtype) for table in previous),
            path_tables=(_copy(model.fuse.gate(paths), dtype), _copy(paths @ second.T, dtype))
            if config.path_codes
            else None,
            fuse_DD=_copy(first.T, dtype),
            norm=_norm(model.norm, precision),
            heads=tuple(_copy(table.T, dtype) for table in (*heads, model.ecpm_head.weight)),
        )


def _linear(layer: nn.Linear, precision: Precision, scale: float | Tensor = 1.0) -> Linear:
    rows = scale[:, None] if isinstance(scale, Tensor) else scale
    return linear(_copy(layer.weight * rows, torch.float32), _copy(layer.bias * scale, torch.float32), precision)


def _norm(layer: nn.LayerNorm, precision: Precision) -> Norm:
    return _copy(layer.weight, dtype_of(precision)), _copy(layer.bias, dtype_of(precision))


def _copy(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)
