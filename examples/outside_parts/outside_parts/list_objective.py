"""A list objective: a candidate that is worth more should be likelier by a margin (a pairwise hinge)."""

import torch
from torch import Tensor

from adbeam.objectives.config import ObjectivesConfig
from adbeam.objectives.rspo import ListBatch


def hinge(lists: ListBatch, config: ObjectivesConfig) -> Tensor:
    """[B]: the mean hinge over the pairs of unequal reward of each list; 0 for a list without one."""
    margin = float(config.preference.options.get("margin", 1.0))
    judged_BNN = lists.judged_BN[:, :, None] & lists.judged_BN[:, None, :]
    reward_BN = lists.reward_BN.nan_to_num(0.0)
    better_BNN = judged_BNN & (reward_BN[:, :, None] > reward_BN[:, None, :])
    apart_BNN = lists.policy_BN[:, :, None] - lists.policy_BN[:, None, :]
    hinge_BNN = torch.relu(margin - apart_BNN).masked_fill(~better_BNN, 0.0)
    return hinge_BNN.sum((1, 2)) / better_BNN.sum((1, 2)).clamp_min(1)
