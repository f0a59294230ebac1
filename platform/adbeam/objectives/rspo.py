"""Ranking-guided softmax preference optimisation (GR4AD eq 16-18, numerics of 1.6.4).

    a_ij   = beta [ log p(y_j) - C_ij log p_ref(y_j) - log p(y_i) + C_ij log p_ref(y_i) ]
    L_RSPO = E_i[ log2( 1 + sum_{j in E_i} M_ij exp(a_ij) ) ]        E_i = { y_j : v_j < v_i }

Shapes: B requests, N candidates of one list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adbeam.objectives.config import RspoConfig
from adbeam.objectives.preference import (
    better,
    descending_rank,
    lambda_weight,
    quantile_reward,
    scale_reward,
    softplus_logsumexp,
)


@dataclass(frozen=True)
class ListBatch:
    """Candidate lists with what is known of them; rewards and reference log-probabilities are data."""

    policy_BN: Tensor
    """log p_theta(y|X) of whole SIDs, with gradient."""
    reference_BN: Tensor
    """log p_ref(y|X) stored when the candidate was generated; NaN where none was stored."""
    reward_BN: Tensor
    """v: eCPM from the reward model, in money. A candidate whose reward is NaN counts as absent."""
    mask_BN: Tensor
    """bool, true where there is a candidate."""

    @property
    def judged_BN(self) -> Tensor:
        """bool, true where there is a candidate with a reward."""
        return self.mask_BN & ~torch.isnan(self.reward_BN)


def rspo_loss(lists: ListBatch, config: RspoConfig) -> tuple[Tensor, Tensor]:
    """(loss [B] in bits: the mean over the y_i that have an E_i, has_signal [B] bool).

    A list of one candidate or of equal rewards has no signal and loss 0.
    """
    term_BN, counted_BN = rspo_terms(lists, config)
    return term_BN.sum(1) / counted_BN.sum(1).clamp_min(1), counted_BN.any(1)


def scaled_rewards(lists: ListBatch, config: RspoConfig) -> Tensor:
    """v [B, N] in [0, reward_scale] as `config.reward_scaling` says; 0 where there is no judged candidate."""
    if config.reward_scaling == "quantile":
        return quantile_reward(lists.reward_BN, lists.judged_BN, config.reward_scale)
    return scale_reward(lists.reward_BN, lists.judged_BN, config.reward_scale, config.reward_money)


def rspo_terms(lists: ListBatch, config: RspoConfig) -> tuple[Tensor, Tensor]:
    """(L_RSPO of every y_i [B, N] in bits, counted [B, N] bool: whether its E_i holds anything)."""
    judged_BN = lists.judged_BN
    reward_BN = scaled_rewards(lists, config)
    rank_BN = descending_rank(reward_BN if config.rank_source == "reward" else lists.policy_BN, judged_BN)
    weight_BNN = lambda_weight(reward_BN, judged_BN, rank_BN)
    lower_BNN = better(reward_BN, judged_BN)
    gate_BN = reference_gate(lists, lower_BNN, config.delta)
    return softmax_terms(lists, weight_BNN, lower_BNN, gate_BN, config.beta), lower_BNN.any(-1)


def softmax_terms(lists: ListBatch, weight_BNN: Tensor, lower_BNN: Tensor, gate_BN: Tensor, beta: float) -> Tensor:
    """log2(1 + sum_{j in E_i} M_ij exp(a_ij)) of every y_i, [B, N]; 0 where E_i is empty (GR4AD eq 16).

    With M = 1 and C = 1 this is S-DPO / ln 2, with one negative DPO / ln 2.
    """
    reference_BN = lists.reference_BN.detach().nan_to_num(0.0, posinf=0.0, neginf=0.0)
    gated_BNN = gate_BN[:, :, None].to(reference_BN.dtype) * (reference_BN[:, None, :] - reference_BN[:, :, None])
    gap_BNN = lists.policy_BN[:, None, :] - lists.policy_BN[:, :, None] - gated_BNN
    present_BNN = lower_BNN & (weight_BNN > 0)
    log_weight_BNN = weight_BNN.clamp_min(torch.finfo(weight_BNN.dtype).tiny).log()
    return softplus_logsumexp(log_weight_BNN + beta * gap_BNN, present_BNN) / math.log(2)


@torch.no_grad()
def reference_gate(lists: ListBatch, lower_BNN: Tensor, delta: float) -> Tensor:
    """C_i [B, N] bool (GR4AD eq 18): whether the terms of y_i are regularised towards the reference.

    True where every member of E_i and y_i itself has a reference and their mean log(p_theta / p_ref) is below `delta`:
    a larger one says that the reference is stale. The same for all j of one i.
    """
    member_BNN = lower_BNN | torch.diag_embed(lists.judged_BN)
    known_BN = torch.isfinite(lists.reference_BN)
    ratio_BN = (lists.policy_BN - lists.reference_BN).masked_fill(~known_BN | ~lists.judged_BN, 0)
    mean_BN = (member_BNN * ratio_BN[:, None, :]).sum(-1) / member_BNN.sum(-1).clamp_min(1)
    complete_BN = ~(member_BNN & ~known_BN[:, None, :]).any(-1)
    return complete_BN & (mean_BN < delta)
