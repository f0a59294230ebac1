"""Votes for codes: how what is known beside the weights enters the logits.

Some tokens (events of the user, ads that trend) vote for their own next code wherever their codes so far are those of
the beam. Each kind of voter adds a term of its own, so that kinds multiply as independent evidence does:

    logit(s_t = v | s_<t, X) += sum over kinds of log(1 + sum of w_t(token) over tokens with codes (s_<t, v))

Probabilities stay normalised over the codebook. Two beams never share a prefix, so a token votes in at most one of
them: the search follows tokens, not pairs of tokens and beams (decoding/engines/prior_votes.py).

Shapes: B requests, N tokens, T SID levels, Q queries, V codebook.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

MAX_LOG_WEIGHT = 12.0
GAIN = 40.0
"""The learned numbers are kept this much smaller: few, and part of every answer, they may move fast at the one rate."""


@dataclass(frozen=True)
class Votes:
    """One kind of voter."""

    code_BNT: Tensor
    """int64, SID codes; -1 where there is no token."""
    weight_BNT: Tensor
    """float32 >= 0, the token's vote at each level; 0 where there is no token."""
    of_history: bool
    """Whether the tokens are places of the context, which a prefix may see only in part."""
    prefixes: int = 1
    """Where each prefix of a context has voters of its own, how many there are: rows are then prefixes."""

    def rows(self, row: Tensor | slice) -> Self:
        """The votes of some of the requests."""
        return type(self)(self.code_BNT[row], self.weight_BNT[row], self.of_history, self.prefixes)

    def heard(self, heard_B: Tensor) -> Self:
        """The same without the votes of the contexts that `heard_B` (bool) leaves out."""
        heard_R = heard_B.repeat_interleave(self.prefixes)
        return dataclasses.replace(self, weight_BNT=self.weight_BNT * heard_R[:, None, None])


def weight_of(log_weight_BNT: Tensor, present_BN: Tensor) -> Tensor:
    """float32 [B, N, T]: exp(GAIN * log_weight), bounded; 0 where no token is present."""
    return torch.exp((GAIN * log_weight_BNT).float().clamp(max=MAX_LOG_WEIGHT)) * present_BN[..., None]


def vote_logits(votes: Votes, level: int, path_BQt: Tensor, size: int, seen_BQN: Tensor | None = None) -> Tensor:
    """What one kind adds to the logits of `level` after the codes `path_BQt` [B, Q, level]: [B, Q, V].

    `seen_BQN` (bool) leaves tokens out that a query may not see.
    """
    if votes.prefixes > 1:
        rows, (B, Q) = dataclasses.replace(votes, prefixes=1), path_BQt.shape[:2]
        path = path_BQt.reshape(B * votes.prefixes, Q // votes.prefixes, level)
        return vote_logits(rows, level, path, size).view(B, Q, size)
    B, Q = path_BQt.shape[:2]
    vote_BQN = votes.weight_BNT[:, None, :, level].expand(B, Q, -1)
    for earlier in range(level):
        vote_BQN = vote_BQN * (votes.code_BNT[:, None, :, earlier] == path_BQt[:, :, None, earlier])
    if seen_BQN is not None:
        vote_BQN = vote_BQN * seen_BQN
    code_BQN = votes.code_BNT[:, None, :, level].clamp_min(0).expand_as(vote_BQN)
    votes_BQV = torch.zeros(B, Q, size, device=vote_BQN.device).scatter_add(2, code_BQN, vote_BQN)
    return torch.log1p(votes_BQV)
