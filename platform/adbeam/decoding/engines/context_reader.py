"""The context processor at serving speed: what a table's row adds to keys and values is computed once a model.

A token is a sum of embeddings and a pathway is linear, so the sum of projected embeddings is the projected sum: one
lookup a token in place of one per feature and level and a product. Places where no request has a token are left out.

Shapes: B requests, S context, N tokens, T levels, L groups of layers, G context heads, d head width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.features.batch import ContextBatch
from adbeam.model.context import ContextState
from adbeam.model.lazyar import LazyAR


def reader_of(model: LazyAR) -> Callable[[ContextBatch, bool], ContextState]:
    """`ContextReader.read`; the model's own `encode`, always whole, where tokens know each other and are no sums."""
    if model.config.history_layers or model.config.reads_hsd:
        return lambda context, whole: model.encode(context)
    return ContextReader(model).read


class ContextReader:
    """`LazyAR.encode` without gradients."""

    @torch.no_grad()
    def __init__(self, model: LazyAR) -> None:
        """Later changes of the model are not seen."""
        config, context = model.config, model.context
        self.config, self.processor = config, context
        static, short, long = (cast(nn.Linear, path) for path in context.pathways)
        tables = [cast(Tensor, table.weight) for table in model.codes]
        rows = torch.cat([context.token_embedding.weight, *tables]).float()
        self._tables = tuple((rows @ path.weight.float().T, path.bias.float()) for path in (short, long))
        self._static = context.static_embedding.weight.float() @ static.weight.float().T, static.bias.float()
        self._gain = context.norm.gain.float().clone()
        starts = [len(context.token_embedding.weight) + sum(config.codebooks[:t]) for t in range(config.levels)]
        self._code_start_T = torch.tensor(starts, device=rows.device)
        self._static_start_F = torch.tensor(context.spec.static_offsets, device=rows.device)

    def read(self, context: ContextBatch, whole: bool = False) -> ContextState:
        """Keys and values [B, L, G, S, d] over the places where any request has a token (all places if `whole`), and
        what votes."""
        config, B = self.config, context.size
        code_BST, feature_BSC, mask_BS = context.code_BST, context.feature_BSC, context.mask_BS
        split = 1 + config.short_length
        if not whole and not bool(mask_BS.all()):
            kept = mask_BS.any(0)
            kept[0] = True
            place = kept.nonzero()[:, 0]
            split = int(kept[:split].sum())
            code_BST, feature_BSC, mask_BS = (x.index_select(1, place) for x in (code_BST, feature_BSC, mask_BS))
        joined_BSC = torch.empty(B, mask_BS.shape[1], len(self._static[1]), device=mask_BS.device)
        table, bias = self._static
        row_BF, weight_BF = context.static_BF + self._static_start_F, self.processor.static_weights(context.static_BF)
        static_BC = F.embedding_bag(row_BF, table, mode="sum", per_sample_weights=weight_BF)
        torch.add(static_BC, bias, out=joined_BSC[:, 0])
        pathways = (slice(1, split), slice(split, mask_BS.shape[1]))
        for (table, bias), places in zip(self._tables, pathways, strict=True):
            row_NC = self._rows(code_BST[:, places], feature_BSC[:, places])
            token_NC = F.embedding_bag(row_NC.flatten(0, 1), table, mode="sum")
            torch.add(token_NC.view(*row_NC.shape[:2], len(bias)), bias, out=joined_BSC[:, places])
        key, value = self._keys_and_values(joined_BSC)
        order = self.processor.order(feature_BSC, mask_BS)
        return ContextState(key, value, mask_BS, self.processor.votes(context), order)

    def _rows(self, code_BST: Tensor, feature_BSC: Tensor) -> Tensor:
        """Rows of the pathway's table for each token."""
        code_BST = code_BST.clamp_min(0)
        return torch.cat([self.processor.token_rows(code_BST, feature_BSC), code_BST + self._code_start_T], dim=-1)

    def _keys_and_values(self, joined_BSC: Tensor) -> tuple[Tensor, Tensor]:
        """Each [B, L, G, S, d]; the same tensor twice where values are tied to keys."""
        B, S, slices = *joined_BSC.shape[:2], len(self._gain)
        sliced = joined_BSC.view(B, S, slices, -1)
        length = torch.linalg.vector_norm(sliced, dim=-1, keepdim=True)
        inverse = length.square_().div_(sliced.shape[-1]).add_(torch.finfo(torch.float32).eps).rsqrt_()
        heads = self.config.context_kv_heads
        joined = joined_BSC.new_empty(B, slices, heads, S, sliced.shape[-1] // heads)
        place = sliced.view(B, S, slices, heads, -1).permute(0, 2, 3, 1, 4)
        torch.mul(place, inverse[..., None].permute(0, 2, 3, 1, 4), out=joined)
        joined.mul_(self._gain.view(slices, heads, 1, -1))
        key, *value = torch.split(joined, self.config.context_kv_groups, dim=1)
        return key, value[0] if value else key
