"""One step of the multi-token-prediction decoder for all beams of a batch: the search can compare it with LazyAR.

The context is read and the main decoder runs once a request; a step is one block on the rows of the beams, which lie on
the query axis of their request's one copy of keys and values.

Shapes: B requests, R rows, W beams of a request, D width, V codebook.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adbeam.decoding.engines.prior_votes import BeamVotes
from adbeam.decoding.layout import Group, Layout
from adbeam.features.batch import ContextBatch
from adbeam.model.context import ContextState
from adbeam.model.mtp import MtpDecoder


@dataclass
class MtpState:
    """One batch under way."""

    context: ContextState
    h_RD: Tensor
    """States of the present rows before the last norm."""
    votes: BeamVotes | None


class MtpEngine:
    """MtpDecoder as a StepModel, in float32."""

    multiple = 1

    def __init__(self, model: MtpDecoder) -> None:
        self.model = model.eval()
        self.config = model.config
        self.device = next(model.parameters()).device

    def beside(self) -> MtpEngine:
        """The engine itself: it keeps nothing between calls."""
        return self

    def begin(self, context: ContextBatch) -> MtpState:
        """Read the contexts and run the main decoder."""
        state = self.model.encode(context)
        return MtpState(state, self.model.trunk(state)[:, 0], BeamVotes.of(state.votes))

    def step(
        self, state: MtpState, level: int, code_R: Tensor | None, parent_R: Tensor | None, layout: Layout
    ) -> Tensor:
        """h [R, D] ready for `logits(level, h)`."""
        if code_R is not None and parent_R is not None:
            if state.votes is not None and level < self.config.levels:
                state.votes.follow(parent_R, code_R, level - 1, self.config.codebooks[level - 1])
            x_RD = self.model.join(level, state.h_RD.index_select(0, parent_R), self.model.codes[level - 1](code_R))
            state.h_RD = torch.cat([self._block(state, level, x_RD, group) for group in layout.groups])
        h_RD: Tensor = self.model.norm(state.h_RD)
        return h_RD

    def logits(self, state: MtpState, level: int, h_RD: Tensor) -> Tensor:
        """float32 [R, V]."""
        logits_RV = self.model.head(level, h_RD).float()
        if state.votes is not None and level < self.config.levels:
            state.votes.add_to(logits_RV, level)
        return logits_RV

    def _block(self, state: MtpState, level: int, x_RD: Tensor, group: Group) -> Tensor:
        key, value = (part[group.of_requests] for part in state.context.layers[-1])
        bias = state.context.bias()[group.of_requests]
        h_BW1D: Tensor = self.model.extra[level - 1](group.view(x_RD)[:, :, None], key, value, bias)[0]
        return h_BW1D[:, :, 0].flatten(0, 1)
