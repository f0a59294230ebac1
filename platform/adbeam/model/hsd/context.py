"""The context processor of HSD: keys and values for the decoder from a request's typed sequence.

It gives what the linear context processor gives, so decoder, priors and search stay what they are.

Shapes: B requests, N tokens, S context places, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.features.batch import ContextBatch
from adbeam.model.config import ModelConfig
from adbeam.model.context import ContextProcessor, ContextState
from adbeam.model.hsd.block import Hsd
from adbeam.model.hsd.thinking import Thinking
from adbeam.model.hsd.tokens import ENVIRONMENT, USER, TypedTokens, event_types, static_columns
from adbeam.model.priors.neighbours import Prefixes

_KIND = 2
"""Column of the token features that tells ads from organic items."""


class HsdContext(ContextProcessor):
    """Tokens -> HSD -> intent embeddings -> thinking tokens, where it has any -> keys and values."""

    def __init__(self, config: ModelConfig, thinking: bool) -> None:
        super().__init__(config)
        self.pathways = nn.ModuleList([nn.Linear(config.width, self.slices * self.group_width)])
        self.hsd = Hsd(config)
        self.age = nn.Parameter(torch.zeros(config.short_length + 1, config.width))
        """Of the newest events by how many came after; the last is of tokens that are no events."""
        self.thinking = Thinking(config) if thinking else None
        self.of_user_F, self.of_environment_F = static_columns(self.spec)

    def forward(self, context: ContextBatch, codes: nn.ModuleList, prefixes: Prefixes | None = None) -> ContextState:
        """Keys and values of B contexts: of the thinking tokens, or of all tokens where there are none."""
        read, mask = self._intents(context, codes)
        if self.thinking is not None:
            head_B = context.static_BF.new_zeros(context.size) if context.head_B is None else context.head_B
            read = self.thinking(read, mask, head_B)
            mask = mask.new_ones(read.shape[:2])
        return self.state_of(self.pathways[0](read), mask, self.votes(context, prefixes), None)

    def _intents(self, context: ContextBatch, codes: nn.ModuleList) -> tuple[Tensor, Tensor]:
        """Intent embeddings [B, N, D] and where they are: a request that is read for several heads is read once."""
        if context.origin_B is None:
            tokens = self.tokens(context, codes)
            return self.hsd(tokens), tokens.mask_BN
        origin, place_B = torch.unique(context.origin_B, return_inverse=True)
        row_B = torch.arange(context.size, device=place_B.device)
        first = torch.empty_like(origin).scatter_(0, place_B, row_B)
        tokens = self.tokens(context.rows(first), codes)
        return self.hsd(tokens)[place_B], tokens.mask_BN[place_B]

    def tokens(self, context: ContextBatch, codes: nn.ModuleList) -> TypedTokens:
        """The sequence: user, most frequent items, newest events, environment."""
        split = 1 + (self.config.short_length if context.short_places is None else context.short_places)
        event_BSD = self._tokens(context, codes)
        short_BSD, long_BSD = event_BSD[:, : split - 1], event_BSD[:, split - 1 :]
        short_mask, long_mask = context.mask_BS[:, 1:split], context.mask_BS[:, split:]
        age_BS = (short_mask.flip(1).cumsum(1).flip(1) - 1).clamp_min(0)
        short_BSD = short_BSD + F.embedding(age_BS, self.age)
        user, place = self._of(context, self.of_user_F), self._of(context, self.of_environment_F)
        own = [user + self.age[-1], long_BSD + self.age[-1], short_BSD, place + self.age[-1]]
        one = context.mask_BS[:, :1]
        type_BS = event_types(context.feature_BSC[:, 1:split, _KIND])
        types = [one.long() * USER, torch.full_like(long_mask, USER, dtype=torch.int64), type_BS,
                 one.long() * ENVIRONMENT]  # fmt: skip
        return TypedTokens(
            self.dropout(torch.cat(own, dim=1)),
            torch.cat(types, dim=1),
            torch.cat([one, long_mask, short_mask, one], dim=1),
        )

    def _of(self, context: ContextBatch, column_F: list[bool]) -> Tensor:
        """One token [B, 1, D] of some of the static features."""
        offset_F = torch.tensor(self.spec.static_offsets, device=context.static_BF.device)
        weight_BF = self.static_weights(context.static_BF)
        kept_F = torch.tensor(column_F, device=offset_F.device).to(self.static_embedding.weight.dtype)
        weight_BF = kept_F.expand(context.static_BF.shape) if weight_BF is None else weight_BF * kept_F
        row_BF = context.static_BF + offset_F
        token_B1D: Tensor = self.static_embedding(row_BF, per_sample_weights=weight_BF.contiguous())[:, None]
        return token_B1D
