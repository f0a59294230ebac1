"""The weights of LazyAR laid out for search: contiguous, and what depends on a code alone computed once.

Fuse(m, s) = W_f [m * (W_g s); s] splits into W_f1 (m * g_s) + i_s with two tables over the codes, g = W_g s and
i = W_f2 s: a row of a search then pays one D x D product instead of three (GR4AD eq 7).

Shapes: V codebook, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adbeam.model.layers import Block
from adbeam.model.lazyar import LazyAR


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer. Each pair is (weight [out, in], bias [out]); a norm is (gain, bias)."""

    cross_norm: tuple[Tensor, Tensor]
    cross_query: tuple[Tensor, Tensor]
    cross_out: tuple[Tensor, Tensor]
    self_norm: tuple[Tensor, Tensor]
    self_project: tuple[Tensor, Tensor]
    self_out: tuple[Tensor, Tensor]
    ffn_norm: tuple[Tensor, Tensor]
    ffn_up: tuple[Tensor, Tensor]
    ffn_out: tuple[Tensor, Tensor]
    context_group: int

    @classmethod
    def of(cls, block: Block, context_group: int) -> LayerWeights:
        """Weights of one block; scores come ready scaled by 1/sqrt(head width) from the query weights."""
        scale = block.cross.head_width**-0.5
        width = block.cross.query.out_features
        project = torch.ones(3 * width, device=block.cross.query.weight.device)
        project[:width] = scale
        return cls(
            cross_norm=_pair(block.cross_norm),
            cross_query=_pair(block.cross.query, scale),
            cross_out=_pair(block.cross.out),
            self_norm=_pair(block.self_norm),
            self_project=_pair(block.self_attention.project, project),
            self_out=_pair(block.self_attention.out),
            ffn_norm=_pair(block.ffn_norm),
            ffn_up=_pair(block.ffn.up),
            ffn_out=_pair(block.ffn.out),
            context_group=context_group,
        )


@dataclass(frozen=True)
class SearchWeights:
    """Everything that a search reads of a model."""

    layers: tuple[LayerWeights, ...]
    position_TD: Tensor
    gate_tables: tuple[Tensor, ...]
    inject_tables: tuple[Tensor, ...]
    """Per step t: g and i [V, D] of the codes chosen before it (one row, BOS, at step 0)."""
    fuse_DD: Tensor
    norm: tuple[Tensor, Tensor]
    heads: tuple[Tensor, ...]
    """[V, D] of each level, and the eCPM head."""

    @classmethod
    @torch.no_grad()
    def of(cls, model: LazyAR) -> SearchWeights:
        """The weights of `model`, float32. Later changes of the model are not seen."""
        config = model.config
        position, bos = model.steps()
        previous = [bos[None], *(table.weight for table in model.codes)]
        first, second = model.fuse.project.weight.split(config.width, dim=1)
        group = config.context_kv_groups
        return cls(
            layers=tuple(LayerWeights.of(b, i * group // config.layers) for i, b in enumerate(model.blocks)),
            position_TD=_copy(position),
            gate_tables=tuple(_copy(model.fuse.gate(table)) for table in previous),
            inject_tables=tuple(_copy(table @ second.T) for table in previous),
            fuse_DD=_copy(first),
            norm=_pair(model.norm),
            heads=(*(_copy(table.weight) for table in model.codes), _copy(model.ecpm_head.weight)),
        )


def _pair(layer: torch.nn.Linear | torch.nn.LayerNorm, scale: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
    scale_rows = scale[:, None] if isinstance(scale, Tensor) else scale
    return _copy(layer.weight * scale_rows), _copy(layer.bias * scale)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous().clone()
