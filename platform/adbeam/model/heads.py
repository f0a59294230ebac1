"""What every decoder of semantic IDs shares: reading the context, one head a level, and the priors' logits.

Shapes: B requests, S context tokens, Q queries, T levels, D width, C columns of a codebook, V codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adbeam.errors import UserError
from adbeam.features.batch import ContextBatch
from adbeam.model.codes import LevelEmbedding
from adbeam.model.config import ModelConfig
from adbeam.model.context import ContextProcessor, ContextState
from adbeam.model.priors.neighbours import Prefixes
from adbeam.model.priors.votes import vote_logits


class SidDecoder(nn.Module):
    """Base of the decoders, which make the parts that it uses; lazyar.py and mtp.py say what each function gives."""

    config: ModelConfig
    context: ContextProcessor
    codes: nn.ModuleList
    ecpm_head: nn.Linear
    steps: LevelEmbedding
    blocks: nn.ModuleList
    trunk: Callable[..., Tensor]
    step: Callable[..., tuple[Tensor, Any]]
    train_losses: Callable[..., dict[str, Tensor]]
    activation_checkpointing: bool
    """Set when training begins: whether layers are computed again in the backward pass."""

    def encode(self, context: ContextBatch, prefixes: Prefixes | None = None) -> ContextState:
        """Keys and values of B contexts, to be used by every later call; `prefixes` are those of training rows."""
        state: ContextState = self.context(context, self.codes, prefixes)
        return state

    def head(self, level: int, h: Tensor, column_C: Tensor | None = None) -> Tensor:
        """Logits [..., V_level] of states [..., D]; level T gives the eCPM buckets. `column_C` computes only these."""
        if level == self.config.levels:
            ecpm: Tensor = self.ecpm_head(h)
            return ecpm
        logits: Tensor = self.codes[level](h, True, column_C, self.config.cosine_temperature)
        return logits

    @property
    def smoothing(self) -> float:
        """Label smoothing of SID levels, in training only."""
        return self.config.label_smoothing if self.training else 0.0

    def prior(self, level: int, state: ContextState, path_BQt: Tensor, seen_BQS: Tensor | None = None) -> Tensor:
        """What the priors add to the logits of `level` after the codes `path_BQt`: [B, Q, V]; 0 without any."""
        added = torch.zeros((), device=state.mask_BS.device)
        for votes in state.votes:
            seen = seen_BQS if votes.of_history else None
            added = added + vote_logits(votes, level, path_BQt, self.config.codebooks[level], seen)
        return added

    def step_model(self) -> Any:
        """The model as decoding.engines.lazyar.StepModel, where decoding does not know it; raises UserError."""
        raise UserError("offers no step_model(), so it cannot be searched", field="model.decoder",
                        value=self.config.decoder, remedy="see docs/extending.md")  # fmt: skip


def negative_log_likelihood(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in float32, of logits [..., V] and targets [...], `smoothing` of each spread over all of V."""
    flat = logits.flatten(0, -2).float()
    loss = F.cross_entropy(flat, target.flatten(), reduction="none", label_smoothing=smoothing)
    return loss.view(target.shape)


def shared_nll(logits_BPV: Tensor, code_BPM: Tensor, smoothing: float = 0.0) -> Tensor:
    """The same [B, P, M] where all targets of a prefix have the same logits."""
    log_p_BPV = F.log_softmax(logits_BPV.float(), dim=-1)
    loss_BPM = -log_p_BPV.gather(-1, code_BPM)
    return torch.lerp(loss_BPM, -log_p_BPV.mean(-1, keepdim=True), smoothing) if smoothing else loss_BPM
