"""Baselines of preference learning: DPO, S-DPO, GRPO and NDCG-Loss2 (papers' loss family).

Every function takes log-probabilities of whole SIDs, log p(y|X) = sum_t log p(s_t | s_<t, X), and returns one loss a
sample, in the unit its formula has. Reference and generation log-probabilities and rewards are data: no gradient.

Shapes: B samples (requests), N candidates of one list.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo_loss(policy_B2: Tensor, reference_B2: Tensor, beta: float) -> Tensor:
    """[B], nats: -ln sigma(beta (r_w - r_l)), r = log p_theta - log p_ref; column 0 is the winner y_w.

    Direct Preference Optimization (Rafailov et al. 2023), eq 7.
    """
    ratio_B2 = policy_B2 - reference_B2.detach()
    return -F.logsigmoid(beta * (ratio_B2[:, 0] - ratio_B2[:, 1]))


def sdpo_loss(policy_BN: Tensor, reference_BN: Tensor, mask_BN: Tensor, beta: float) -> Tensor:
    """[B], nats: -ln sigma(-ln sum_j exp(beta (r_j - r_w))); column 0 is y_w, the others are its negatives y_j.

    `mask_BN` is true where there is a candidate; 0 for a sample without negatives. Softmax-DPO (Chen et al. 2024).
    """
    ratio_BN = policy_BN - reference_BN.detach()
    gap_BN = beta * (ratio_BN[:, 1:] - ratio_BN[:, :1])
    return softplus_logsumexp(gap_BN, mask_BN[:, 1:] & mask_BN[:, :1])


def grpo_loss(
    policy_BN: Tensor,
    generation_BN: Tensor,
    reward_BN: Tensor,
    mask_BN: Tensor,
    reference_BN: Tensor | None = None,
    clip: float = 0.2,
    kl_weight: float = 0.04,
) -> Tensor:
    """[B], nats: -mean_i( min(r_i A_i, clip(r_i, 1 - eps, 1 + eps) A_i) - kl_weight KL_i ).

    r_i = p_theta(y_i) / p_generation(y_i); A_i = (v_i - mean v) / std v inside the list, 0 where all rewards are equal;
    KL_i = p_ref/p_theta - log(p_ref/p_theta) - 1, left out without a reference. Group Relative Policy Optimization
    (Shao et al. 2024), eq 3-4, with the SID as one action.
    """
    ratio_BN = (policy_BN - generation_BN.detach()).clamp(-20, 20).exp()
    advantage_BN = standardise(reward_BN, mask_BN)
    gain_BN = torch.minimum(ratio_BN * advantage_BN, ratio_BN.clamp(1 - clip, 1 + clip) * advantage_BN)
    if reference_BN is not None and kl_weight:
        gap_BN = (reference_BN.detach() - policy_BN).clamp(-20, 20)
        gain_BN = gain_BN - kl_weight * (gap_BN.exp() - gap_BN - 1)
    return -gain_BN.masked_fill(~mask_BN, 0).sum(1) / mask_BN.sum(1).clamp_min(1)


def ndcg_loss2(
    policy_BN: Tensor, reward_BN: Tensor, mask_BN: Tensor, sigma: float = 1.0, rank_BN: Tensor | None = None
) -> Tensor:
    """[B], bits: sum over v_i > v_j of delta_ij |G_i - G_j| log2(1 + exp(-sigma (s_i - s_j))), s = log p_theta.

    delta_ij = 1/D_{|i-j|} - 1/D_{|i-j|+1}, D_k = log2(1 + k), ranks from the model's own scores unless given.
    `reward_BN` must be scaled (see `scale_reward`). LambdaLoss, NDCG-Loss2 (Wang et al. 2018), the parent of RSPO.
    """
    if rank_BN is None:
        rank_BN = descending_rank(policy_BN, mask_BN)
    weight_BNN = lambda_weight(reward_BN, mask_BN, rank_BN) * better(reward_BN, mask_BN)
    gap_BNN = (policy_BN[:, :, None] - policy_BN[:, None, :]).masked_fill(weight_BNN == 0, 0)
    return (weight_BNN * F.softplus(-sigma * gap_BNN)).sum((1, 2)) / math.log(2)


def standardise(reward_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """(v - mean) / std [B, N] over each list; 0 outside the list, and in a list whose rewards are all equal."""
    count_B1 = mask_BN.sum(1, keepdim=True).clamp_min(1)
    reward_BN = reward_BN.detach().masked_fill(~mask_BN, 0)
    centred_BN = (reward_BN - reward_BN.sum(1, keepdim=True) / count_B1).masked_fill(~mask_BN, 0)
    std_B1 = (centred_BN.square().sum(1, keepdim=True) / count_B1).sqrt()
    tiny_B1 = 1e-6 * reward_BN.abs().amax(1, keepdim=True)
    return torch.where(std_B1 > tiny_B1, centred_BN / std_B1.clamp_min(1e-30), 0.0)


def scale_reward(reward_BN: Tensor, mask_BN: Tensor, largest: float, money: float | None = None) -> Tensor:
    """v [B, N] in [0, largest] = largest * log1p(reward) / log1p(money), cut at `largest`; 0 outside the list.

    `money` is the reward that reaches the top (default: the largest of the batch). Money has a long tail and the gain
    is 2^v: raw rewards would overflow (GR4AD 1.6.4). Negative rewards count as 0.
    """
    log_BN = torch.log1p(reward_BN.detach().nan_to_num(0.0, posinf=3e38, neginf=0.0).clamp_min(0))
    log_BN = log_BN.masked_fill(~mask_BN, 0)
    top = log_BN.max() if money is None else torch.log1p(torch.as_tensor(money, dtype=log_BN.dtype))
    return largest * (log_BN / top.clamp_min(1e-12)).clamp_max(1)


def quantile_reward(reward_BN: Tensor, mask_BN: Tensor, largest: float) -> Tensor:
    """v [B, N] in [0, largest]: the share of the batch's candidates of lower reward; 0 outside the list.

    Equal rewards are equal here, and no outlier presses the others together (GR4AD 1.6.4).
    """
    value_n = reward_BN.detach()[mask_BN].nan_to_num(0.0, posinf=3e38, neginf=0.0)
    lower_n = torch.searchsorted(value_n.sort().values, value_n)
    v_BN = torch.zeros_like(reward_BN)
    v_BN[mask_BN] = largest * lower_n.to(v_BN.dtype) / max(len(value_n) - 1, 1)
    return v_BN


def better(reward_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """bool [B, N, N]: y_j belongs to E_i, the candidates of strictly lower reward than y_i."""
    return (reward_BN[:, None, :] < reward_BN[:, :, None]) & mask_BN[:, :, None] & mask_BN[:, None, :]


def descending_rank(score_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """int64 [B, N]: 0 for the highest score; ties by place; what is outside the list comes last. No gradient."""
    score_BN = score_BN.detach().masked_fill(~mask_BN, float("-inf"))
    return score_BN.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def lambda_weight(reward_BN: Tensor, mask_BN: Tensor, rank_BN: Tensor) -> Tensor:
    """M_ij [B, N, N] = (1/D_{|i-j|} - 1/D_{|i-j|+1}) |G_i - G_j|, D_k = log2(1 + k) (GR4AD eq 17).

    G_i = (2^{v_i} - 1) / Z with the list's ideal DCG Z; `reward_BN` must be scaled. 0 for i = j and outside the list.
    """
    gain_BN = gain(reward_BN, mask_BN)
    distance_BNN = (rank_BN[:, :, None] - rank_BN[:, None, :]).abs().clamp_min(1).to(gain_BN.dtype)
    discount_BNN = 1 / torch.log2(1 + distance_BNN) - 1 / torch.log2(2 + distance_BNN)
    pair_BNN = mask_BN[:, :, None] & mask_BN[:, None, :]
    return (discount_BNN * (gain_BN[:, :, None] - gain_BN[:, None, :]).abs()).masked_fill(~pair_BNN, 0)


def gain(reward_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """G_i [B, N] = (2^{v_i} - 1) / Z, Z the list's ideal DCG; 0 outside the list."""
    raw_BN = (torch.exp2(reward_BN.detach()) - 1).masked_fill(~mask_BN, 0)
    return raw_BN / ideal_dcg(reward_BN, mask_BN)[:, None].clamp_min(1e-12)


def ideal_dcg(reward_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """Z [B] = sum_k (2^{v_(k)} - 1) / log2(1 + k) with rewards in falling order, k from 1."""
    raw_BN = (torch.exp2(reward_BN.detach()) - 1).masked_fill(~mask_BN, 0).sort(dim=1, descending=True).values
    place_N = torch.arange(1, raw_BN.shape[1] + 1, device=raw_BN.device, dtype=raw_BN.dtype)
    return (raw_BN / torch.log2(1 + place_N)).sum(1)


def softplus_logsumexp(log_terms: Tensor, mask: Tensor) -> Tensor:
    """ln(1 + sum_j exp(term_j)) over the last axis; 0, with gradient 0, where no term is present."""
    some = mask.any(-1)
    # Rows without a term get a finite stand-in, so that their gradient is 0 and not NaN.
    log_terms = log_terms.masked_fill(~mask, float("-inf")).masked_fill(~some[..., None], -1e4)
    return F.softplus(torch.logsumexp(log_terms, dim=-1)).masked_fill(~some, 0.0)
