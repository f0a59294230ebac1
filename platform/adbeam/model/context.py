"""The light linear context processor of OneRec-V2's lazy decoder (GR4AD 1.3).

Three pathways (static features, newest events, most frequent items) are each projected once and laid one behind the
other. Each token gives every group of layers its keys and values, normalised per group; no layer has W_k or W_v.

Shapes: B requests, S context, C token features, F static features, T SID levels, D width, L groups of layers,
G context heads, d head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.features.batch import ContextBatch
from adbeam.features.spec import FeatureSpec
from adbeam.features.tokens import SHORT
from adbeam.model.config import ModelConfig
from adbeam.model.history_layers import HistoryLayers
from adbeam.model.priors.history import HistoryPrior
from adbeam.model.priors.neighbours import NeighbourPrior, Prefixes
from adbeam.model.priors.trend import TrendPrior
from adbeam.model.priors.votes import Votes
from adbeam.model.recency import ages

_HASH_FACTORS = (1_000_003, 8_191, 131_071, 524_287, 65_537, 257)
"""Odd factors that spread the codes of a SID over hash buckets."""


@dataclass(frozen=True)
class ContextState:
    """Keys and values of B contexts, made once a request and read by every layer, level and beam."""

    key_BLGSd: Tensor
    value_BLGSd: Tensor
    """The same tensor as the keys when they are tied (S_kv = 1)."""
    mask_BS: Tensor
    """bool, true where there is a token."""
    votes: tuple[Votes, ...] = ()
    """Of each prior that the model has."""
    order_BS: Tensor | None = None
    """int64, the newest events numbered from 1, oldest first; 0 elsewhere. Only where the model has a recency bias."""

    @cached_property
    def layers(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values [B, G, S, d] of each group of layers."""
        # Taken apart once: a select per layer would cost a gradient of the whole size per layer.
        keys = self.key_BLGSd.unbind(1)
        values = keys if self.value_BLGSd is self.key_BLGSd else self.value_BLGSd.unbind(1)
        return tuple(zip(keys, values, strict=True))

    def rows(self, row: Tensor | slice) -> Self:
        """The state of some of the requests."""
        key = self.key_BLGSd[row]
        value = key if self.value_BLGSd is self.key_BLGSd else self.value_BLGSd[row]
        votes = tuple(votes.rows(row) for votes in self.votes)
        return type(self)(key, value, self.mask_BS[row], votes, None if self.order_BS is None else self.order_BS[row])

    def bias(self, visible_BP: Tensor | None = None, queries: int = 1) -> Tensor:
        """Additive attention bias: [B, 1, 1, S], or with `visible_BP` [B, 1, P * queries, S].

        Prefix p sees the first `visible` tokens of its context; `queries` rows in a row belong to one prefix.
        """
        seen = self.mask_BS[:, None]
        if visible_BP is not None:
            place_S = torch.arange(self.mask_BS.shape[1], device=self.mask_BS.device)
            seen = seen & (place_S < visible_BP[:, :, None])
            seen = seen.repeat_interleave(queries, dim=1)
        bias = torch.zeros(seen.shape, dtype=self.key_BLGSd.dtype, device=seen.device)
        return bias.masked_fill_(~seen, float("-inf"))[:, None]


@dataclass(frozen=True)
class Sight:
    """What the queries of a call see of the context."""

    bias: Tensor
    """Additive attention bias [B, 1, 1 or Q, S] of all layers."""
    age_BPS: Tensor | None = None
    """Ages of the tokens for each prefix; None where the model has no recency bias."""
    queries: int = 1
    """Queries of one prefix."""

    @classmethod
    def of(cls, state: ContextState, visible_BP: Tensor | None = None, queries: int = 1) -> Self:
        """`queries` rows in a row see what one prefix sees; everything is seen without `visible_BP`."""
        age = None if state.order_BS is None else ages(state.order_BS, visible_BP)
        return cls(state.bias(visible_BP, queries), age, queries if visible_BP is not None else 1)


class GroupedRMSNorm(nn.Module):
    """RMSNorm over each group's slice, with a gain of its own."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(groups, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised x [..., groups, width]."""
        return F.rms_norm(x, (x.shape[-1],)) * self.gain


class ContextProcessor(nn.Module):
    """Token embeddings -> one projection a pathway -> keys and values for every group of layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.spec = config, FeatureSpec.of(config)
        shared = 2 if config.separate_values else 1
        self.slices = shared * config.context_kv_groups
        self.group_width = config.context_kv_heads * config.head_width
        self.static_embedding = nn.EmbeddingBag(self.spec.static_rows, config.width, mode="sum")
        self.token_embedding = nn.EmbeddingBag(self.spec.token_rows, config.width, mode="sum")
        self.pathways = nn.ModuleList(nn.Linear(config.width, self.slices * self.group_width) for _ in range(3))
        self.history = HistoryLayers(config) if config.history_layers else None
        self.norm = GroupedRMSNorm(self.slices, self.group_width)
        self.dropout = nn.Dropout(config.dropout)
        self.priors = nn.ModuleDict()
        if config.history_prior:
            self.priors["history"] = HistoryPrior(config)
        if config.trending_length:
            self.priors["trend"] = TrendPrior(config)
        if config.neighbour_prior is not None:
            self.priors["neighbours"] = NeighbourPrior(config)

    def forward(self, context: ContextBatch, codes: nn.ModuleList, prefixes: Prefixes | None = None) -> ContextState:
        """Keys and values of B contexts. `codes` are the decoder's code tables: the history speaks its language.
        `prefixes` are those of training rows that have several."""
        config = self.config
        token = self.dropout(self._tokens(context, codes))
        split = config.short_length if context.short_places is None else context.short_places
        short, long = token[:, :split], token[:, split:]
        if self.history is not None:
            short = self.history(short, context.mask_BS[:, 1 : 1 + split])
        parts = [self.dropout(self._static(context)), short, long]
        joined = torch.cat([path(part) for path, part in zip(self.pathways, parts, strict=True)], dim=1)
        order = self.order(context.feature_BSC, context.mask_BS)
        return self.state_of(joined, context.mask_BS, self.votes(context, prefixes), order)

    def state_of(
        self, joined_BSX: Tensor, mask_BS: Tensor, votes: tuple[Votes, ...], order_BS: Tensor | None
    ) -> ContextState:
        """Keys and values from what a pathway made of each token, all groups' slices behind each other (X)."""
        config, B = self.config, len(mask_BS)
        joined = self.norm(joined_BSX.view(B, -1, self.slices, self.group_width))
        joined = joined.view(B, -1, self.slices, config.context_kv_heads, config.head_width).permute(0, 2, 3, 1, 4)
        key, *value = joined.contiguous().split(config.context_kv_groups, dim=1)
        return ContextState(key, value[0] if value else key, mask_BS, votes, order_BS)

    def order(self, feature_BSC: Tensor, mask_BS: Tensor) -> Tensor | None:
        """`ContextState.order_BS`."""
        if not self.config.recency_bias:
            return None
        newest_BS = mask_BS & (feature_BSC[..., 0] == SHORT)
        return newest_BS.cumsum(dim=1) * newest_BS

    def votes(self, context: ContextBatch, prefixes: Prefixes | None = None) -> tuple[Votes, ...]:
        """What each prior of the model says about B contexts; in training nothing about some (`prior_dropout`)."""
        votes = tuple(
            prior(context, prefixes) if isinstance(prior, NeighbourPrior) else prior(context)
            for prior in self.priors.values()
        )
        if not (votes and self.training and self.config.prior_dropout):
            return votes
        heard_B = torch.rand(context.size, device=context.mask_BS.device) >= self.config.prior_dropout
        return tuple(one.heard(heard_B) for one in votes)

    def _static(self, context: ContextBatch) -> Tensor:
        """One token [B, 1, D] of all static features."""
        offset_F = torch.tensor(self.spec.static_offsets, device=context.static_BF.device)
        weight_BF = self.static_weights(context.static_BF)
        token_B1D: Tensor = self.static_embedding(context.static_BF + offset_F, per_sample_weights=weight_BF)[:, None]
        return token_B1D

    def static_weights(self, static_BF: Tensor) -> Tensor | None:
        """float [B, F], 0 where a list of a request has no further value; None where no static feature is a list."""
        if not self.spec.lists:
            return None
        further_F = torch.tensor(self.spec.further_of_list, device=static_BF.device)
        return 1.0 - (further_F & (static_BF == 0)).to(self.static_embedding.weight.dtype)

    def _tokens(self, context: ContextBatch, codes: nn.ModuleList) -> Tensor:
        """History tokens [B, S - 1, D]: codes of all levels, hashed prefix and item, and their features."""
        code_BST = context.code_BST[:, 1:].clamp_min(0)
        row_BSC = self.token_rows(code_BST, context.feature_BSC[:, 1:])
        token: Tensor = self.token_embedding(row_BSC.flatten(0, 1)).view(*code_BST.shape[:2], self.config.width)
        for level, table in enumerate(codes):
            token = token + table(code_BST[..., level])
        return token

    def token_rows(self, code_BST: Tensor, feature_BSC: Tensor) -> Tensor:
        """int64 [B, S, C + 2], the rows of `token_embedding` that make up each token: features, prefix and item."""
        feature_BSC = torch.cat([feature_BSC, self._hashes(code_BST)], dim=-1)
        return feature_BSC + torch.tensor(self.spec.token_offsets, device=feature_BSC.device)

    def embed_path(self, code_nt: Tensor) -> Tensor:
        """Embeddings [..., D] of the first t >= 2 codes of SIDs [..., t], from the tables of the history's tokens."""
        row = self.path_row(code_nt)
        path: Tensor = self.token_embedding(row.reshape(-1, 1)).view(*row.shape, -1)
        return path

    def path_row(self, code_nt: Tensor) -> Tensor:
        """int64 [...], where `token_embedding` holds the path of the codes [..., t], t >= 2."""
        buckets, start = self.config.prefix_buckets, self.spec.token_offsets[-2]
        if code_nt.shape[-1] == self.config.levels:
            buckets, start = self.config.item_buckets, self.spec.token_offsets[-1]
        return self._mix(code_nt)[..., -1] % buckets + start

    def _hashes(self, code_BST: Tensor) -> Tensor:
        """Buckets [B, S, 2] of the SID prefix (s_1, s_2) and of the whole SID."""
        mixed_BST = self._mix(code_BST)
        prefix = mixed_BST[..., min(1, self.config.levels - 1)] % self.config.prefix_buckets
        return torch.stack([prefix, mixed_BST[..., -1] % self.config.item_buckets], dim=-1)

    @staticmethod
    def _mix(code_nt: Tensor) -> Tensor:
        """One number for each prefix of each SID, [..., t]."""
        factor_t = torch.tensor(_HASH_FACTORS[: code_nt.shape[-1]], device=code_nt.device)
        return ((code_nt + 1) * factor_t).cumsum(-1)
