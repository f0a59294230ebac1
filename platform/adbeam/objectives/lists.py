"""The loss of candidate lists: RSPO, UVR or a baseline, by setting; and how far a model is from its reference.

Shapes: B requests, N candidates of one list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from adbeam.imports.extension_points import LIST_OBJECTIVES
from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.preference import descending_rank, dpo_loss, gain, grpo_loss, ndcg_loss2, sdpo_loss
from adbeam.objectives.rspo import ListBatch, rspo_loss, rspo_terms, scaled_rewards
from adbeam.objectives.uvr import disagreement, uvr_loss, uvr_weights


def list_loss(
    losses: Mapping[str, Tensor], lists: ListBatch, config: ObjectivesConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """(the list loss as a scalar without its weight, metrics as detached scalars).

    `losses` are the model's [B, 1, N] for the candidates as targets, `lists.policy_BN` is minus its "sid". The mean
    runs over all lists, those without a signal counting 0, so that workers with equally many lists average to the loss
    of the whole batch.
    """
    preference = config.preference
    if preference.method == "none":
        return lists.policy_BN.sum() * 0.0, list_metrics(lists, config)
    if preference.unified:
        per_list_B = _unified(losses, lists, config)
    else:
        per_list_B = LIST_OBJECTIVES.load(preference.method)(lists, config)
    return per_list_B.mean(), list_metrics(lists, config)


def no_loss(lists: ListBatch, config: ObjectivesConfig) -> Tensor:
    """Zeros [B]: lists teach nothing."""
    return lists.policy_BN.sum(1) * 0.0


def rspo(lists: ListBatch, config: ObjectivesConfig) -> Tensor:
    """RSPO [B]."""
    return rspo_loss(lists, config.rspo)[0]


def ndcg(lists: ListBatch, config: ObjectivesConfig) -> Tensor:
    """NDCG-Loss2 [B]."""
    scaled_BN = scaled_rewards(lists, config.rspo)
    return ndcg_loss2(lists.policy_BN, scaled_BN, lists.judged_BN, config.preference.sigma)


def grpo(lists: ListBatch, config: ObjectivesConfig) -> Tensor:
    """GRPO [B]; a list that lacks a reference is compared with itself as it is now."""
    preference, scaled_BN = config.preference, scaled_rewards(lists, config.rspo)
    reference_BN, known_B = _references(lists)
    generated_BN = torch.where(known_B[:, None], reference_BN, lists.policy_BN.detach())
    return grpo_loss(
        lists.policy_BN, generated_BN, scaled_BN, lists.judged_BN, generated_BN, preference.clip, preference.kl_weight
    )


def sdpo(lists: ListBatch, config: ObjectivesConfig) -> Tensor:
    """S-DPO [B]: the best candidate against all of less reward."""
    ranked = _winner_first(lists, config)
    mask_BN = torch.cat([ranked.mask_BN[:, :1], ranked.lower_BN[:, 1:]], dim=1)
    return sdpo_loss(ranked.policy_BN, ranked.reference_BN, mask_BN, config.preference.beta)


def dpo(lists: ListBatch, config: ObjectivesConfig) -> Tensor:
    """DPO [B]: the best candidate against the worst; 0 for a list whose candidates are all worth the same."""
    ranked = _winner_first(lists, config)
    last_B1 = (ranked.mask_BN.sum(1, keepdim=True) - 1).clamp_min(0)
    pair_B2 = torch.cat([torch.zeros_like(last_B1), last_B1], dim=1)
    loss_B = dpo_loss(
        ranked.policy_BN.gather(1, pair_B2), ranked.reference_BN.gather(1, pair_B2), config.preference.beta
    )
    return loss_B.masked_fill(~ranked.lower_BN.any(1), 0.0)


class _Ranked(NamedTuple):
    """Candidates by falling reward; `lower_BN` are those of less reward than the first."""

    policy_BN: Tensor
    reference_BN: Tensor
    mask_BN: Tensor
    lower_BN: Tensor


def _winner_first(lists: ListBatch, config: ObjectivesConfig) -> _Ranked:
    scaled_BN, judged_BN = scaled_rewards(lists, config.rspo), lists.judged_BN
    order_BN = scaled_BN.masked_fill(~judged_BN, -1.0).argsort(dim=1, descending=True, stable=True)
    policy_BN, reference_BN, reward_BN, mask_BN = (
        x.gather(1, order_BN) for x in (lists.policy_BN, _references(lists)[0], scaled_BN, judged_BN)
    )
    return _Ranked(policy_BN, reference_BN, mask_BN, mask_BN & (reward_BN < reward_BN[:, :1]))


def _references(lists: ListBatch) -> tuple[Tensor, Tensor]:
    """(references [B, N], lists that have them [B]); a list that lacks a reference is compared without one."""
    known_B = (torch.isfinite(lists.reference_BN) | ~lists.judged_BN).all(1)
    return lists.reference_BN.nan_to_num(0.0) * known_B[:, None], known_B


def _unified(losses: Mapping[str, Tensor], lists: ListBatch, config: ObjectivesConfig) -> Tensor:
    """UVR [B]: the mean over each list's candidates of w_VSL L_VSL + w_RL L_RSPO (GR4AD eq 19-22)."""
    judged_BN = lists.judged_BN
    reward_BN = scaled_rewards(lists, config.rspo)
    apart_BN = disagreement(lists.policy_BN, reward_BN, judged_BN)
    imitate_BN, refine_BN = uvr_weights(apart_BN, reward_BN, judged_BN, config.uvr)
    if config.uvr.imitate == "above_mean":
        mean_B1 = reward_BN.masked_fill(~judged_BN, 0.0).sum(1, keepdim=True) / judged_BN.sum(
            1, keepdim=True
        ).clamp_min(1)
        imitate_BN = imitate_BN * (reward_BN > mean_B1)
    vsl_BN = losses["sid"][:, 0]
    if config.lambda_mtp and "mtp" in losses:
        vsl_BN = vsl_BN + config.lambda_mtp * losses["mtp"][:, 0]
    term_BN, _ = rspo_terms(lists, config.rspo)
    return uvr_loss(vsl_BN, term_BN, (imitate_BN, refine_BN), judged_BN)


@torch.no_grad()
def list_metrics(lists: ListBatch, config: ObjectivesConfig) -> dict[str, Tensor]:
    """ "list_kl" in nats, "list_ndcg" of the model's order by reward, "list_reward": money of its first candidate."""
    judged_BN = lists.judged_BN
    reward_BN = scaled_rewards(lists, config.rspo)
    rank_BN = descending_rank(lists.policy_BN, judged_BN)
    some_B = judged_BN.any(1)
    ndcg_B = (gain(reward_BN, judged_BN) / torch.log2(2.0 + rank_BN)).sum(1)
    first_BN = judged_BN & (rank_BN == 0)
    money_B = lists.reward_BN.nan_to_num(0.0).masked_fill(~first_BN, 0.0).sum(1)
    count = some_B.sum().clamp_min(1)
    return {
        "list_kl": reference_kl(lists),
        "list_ndcg": (ndcg_B * some_B).sum() / count,
        "list_reward": (money_B * some_B).sum() / count,
    }


@torch.no_grad()
def reference_kl(lists: ListBatch) -> Tensor:
    """KL(reference || model) in nats, both renormalised over each list's candidates that have a reference; the mean
    over lists with at least two of them, 0 without any.

    Restricting both to the list makes the divergence exact there, with no sampling: a whole-catalogue KL would need
    every SID's probability under both.
    """
    known_BN = lists.mask_BN & torch.isfinite(lists.reference_BN)
    many_B1 = known_BN.sum(1, keepdim=True) > 1
    known_BN = known_BN & many_B1
    low = torch.finfo(lists.policy_BN.dtype).min
    q_BN = lists.reference_BN.nan_to_num(0.0).masked_fill(~known_BN, low).log_softmax(1)
    p_BN = lists.policy_BN.masked_fill(~known_BN, low).log_softmax(1)
    kl_B = (q_BN.exp() * (q_BN - p_BN)).masked_fill(~known_BN, 0.0).sum(1)
    return kl_B.sum() / many_B1.sum().clamp_min(1)
