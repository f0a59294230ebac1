"""UVR: VSL and RSPO in one online stream, weighed by how far the model's order is from the rewards' (GR4AD eq 19-22).

    A_i     = |r_p - r_v| / (n - 1)
    w_VSL,i = w_0 (1 + v_i)^{A_i}        w_RL,i = w_0 Z_max (1 - A_i)
    L       = E_i[ w_VSL,i L_VSL,i + w_RL,i L_RSPO,i ]

Large disagreement: imitate first. Small disagreement: refine by reward. The weights are data, without gradient.
Shapes: B requests, N candidates of one list.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adbeam.objectives.config import UvrConfig
from adbeam.objectives.preference import descending_rank, ideal_dcg


@torch.no_grad()
def disagreement(policy_BN: Tensor, reward_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """A [B, N] in [0, 1]: distance of the rank by model likelihood from the rank by reward (GR4AD eq 19).

    0 outside the list and in a list of one. Candidates of equal reward are ranked among themselves as the model does:
    their order says nothing against it.
    """
    by_policy_BN = descending_rank(policy_BN, mask_BN)
    # A stable sort of the list in policy order breaks ties of the reward by the policy.
    in_order_BN = policy_BN.masked_fill(~mask_BN, float("-inf")).argsort(dim=1, descending=True, stable=True)
    ranked_BN = descending_rank(reward_BN.gather(1, in_order_BN), mask_BN.gather(1, in_order_BN))
    by_reward_BN = torch.empty_like(ranked_BN).scatter_(1, in_order_BN, ranked_BN)
    span_B1 = (mask_BN.sum(1, keepdim=True) - 1).clamp_min(1)
    return ((by_policy_BN - by_reward_BN).abs() / span_B1).masked_fill(~mask_BN, 0.0)


@torch.no_grad()
def uvr_weights(
    disagreement_BN: Tensor, reward_BN: Tensor, mask_BN: Tensor, config: UvrConfig
) -> tuple[Tensor, Tensor]:
    """(w_VSL, w_RL), each [B, N] and 0 outside the list (GR4AD eq 20-21).

    `reward_BN` must be scaled and not negative. Z_max is not defined in the paper: "batch" takes the largest
    (1 + v)^A of the batch, so that both weights have the same top; "ideal_dcg" takes each list's ideal DCG.
    """
    imitate_BN = torch.exp(disagreement_BN * torch.log1p(reward_BN)).masked_fill(~mask_BN, 0.0)
    if config.z_max == "batch":
        top_B1 = imitate_BN.max().expand(len(imitate_BN), 1)
    else:
        top_B1 = ideal_dcg(reward_BN, mask_BN)[:, None]
    refine_BN = (top_B1 * (1 - disagreement_BN)).masked_fill(~mask_BN, 0.0)
    return config.base_weight * imitate_BN, config.base_weight * refine_BN


def uvr_loss(vsl_BN: Tensor, rspo_BN: Tensor, weight_BN: tuple[Tensor, Tensor], mask_BN: Tensor) -> Tensor:
    """L [B]: of each list the mean over its candidates of w_VSL L_VSL + w_RL L_RSPO (GR4AD eq 22), 0 of an empty one.

    A mean of each list, so that a long list counts no more than a short one. Plain exposures are not in a list; they
    enter the same step by VSL alone.
    """
    total_BN = (weight_BN[0] * vsl_BN + weight_BN[1] * rspo_BN).masked_fill(~mask_BN, 0.0)
    return total_BN.sum(1) / mask_BN.sum(1).clamp_min(1)
