"""UVR's weights (papers' unit test 8) and the GRPO baseline."""

from __future__ import annotations

import pytest
import torch

from adbeam.objectives.config import ObjectivesConfig, UvrConfig
from adbeam.objectives.lists import list_loss
from adbeam.objectives.preference import grpo_loss, standardise
from adbeam.objectives.rspo import ListBatch
from adbeam.objectives.uvr import disagreement, uvr_loss, uvr_weights

ALL = torch.ones(1, 3, dtype=torch.bool)


def test_agreement_refines_and_disagreement_imitates() -> None:
    reward = torch.tensor([[3.0, 2.0, 0.5]])
    config = UvrConfig(base_weight=0.5)
    imitate, refine = uvr_weights(torch.zeros(1, 3), reward, ALL, config)
    assert torch.equal(imitate, torch.full((1, 3), 0.5)) and torch.equal(refine, torch.full((1, 3), 0.5))
    imitate, refine = uvr_weights(torch.ones(1, 3), reward, ALL, config)
    assert not refine.any()
    torch.testing.assert_close(imitate, 0.5 * (1 + reward))


def test_z_max_is_the_top_of_the_batch_or_the_ideal_dcg() -> None:
    reward, apart = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    _, refine = uvr_weights(apart, reward, ALL, UvrConfig(z_max="batch"))
    assert refine.tolist() == [[0.0, pytest.approx(4.0), 0.0]]
    _, refine = uvr_weights(apart, reward, ALL, UvrConfig(z_max="ideal_dcg"))
    assert refine[0, 1].item() == pytest.approx(7 + 1 / 1.5849625)


def test_disagreement_is_the_rank_distance() -> None:
    policy = torch.tensor([[-1.0, -2.0, -3.0, 9.0], [-1.0, -2.0, -3.0, 9.0], [-3.0, -2.0, -1.0, 9.0]])
    reward = torch.tensor([[9.0, 5.0, 1.0, 0.0], [1.0, 5.0, 9.0, 0.0], [4.0, 4.0, 4.0, 0.0]])
    mask = torch.tensor([[True, True, True, False]]).expand(3, 4)
    assert disagreement(policy, reward, mask).tolist() == [[0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert disagreement(policy[:, :1], reward[:, :1], mask[:, :1]).tolist() == [[0], [0], [0]]


def test_weights_carry_no_gradient() -> None:
    policy = torch.randn(1, 3, requires_grad=True)
    reward = torch.rand(1, 3)
    weights = uvr_weights(disagreement(policy, reward, ALL), reward, ALL, UvrConfig())
    vsl = torch.ones(1, 3, requires_grad=True)
    uvr_loss(vsl, -policy, weights, ALL).sum().backward()
    torch.testing.assert_close(vsl.grad, weights[0] / 3)
    torch.testing.assert_close(policy.grad, -weights[1] / 3)


def test_grpo_follows_the_advantage_until_the_clip() -> None:
    generation = torch.zeros(1, 3)
    reward = torch.tensor([[1.0, 2.0, 3.0]])
    policy = torch.zeros(1, 3, requires_grad=True)
    grpo_loss(policy, generation, reward, ALL).sum().backward()
    assert policy.grad is not None and policy.grad[0, 0] > 0 and policy.grad[0, 2] < 0
    moved = torch.tensor([[-1.0, 0.0, 1.0]], requires_grad=True)
    grpo_loss(moved, generation, reward, ALL).sum().backward()
    assert moved.grad is not None and not moved.grad.any(), "both ratios lie outside the clip on their good side"


def test_grpo_penalises_leaving_the_reference() -> None:
    reward, generation = torch.ones(1, 3), torch.zeros(1, 3)
    near, far = (grpo_loss(torch.full((1, 3), x), generation, reward, ALL, torch.zeros(1, 3)) for x in (0.0, 2.0))
    assert near.item() == 0 and far.item() > 0


def test_advantages_of_a_list() -> None:
    reward = torch.tensor([[1.0, 3.0, 99.0], [5.0, 5.0, 5.0], [1e9, 3e9, 0.0]])
    mask = torch.tensor([[True, True, False], [True, True, True], [True, True, False]])
    advantage = standardise(reward, mask)
    torch.testing.assert_close(advantage, torch.tensor([[-1.0, 1, 0], [0, 0, 0], [-1, 1, 0]]))


def test_the_mean_is_taken_over_each_list_by_itself() -> None:
    vsl = torch.tensor([[1.0, 2.0, 3.0, 99.0], [5.0, 99.0, 99.0, 99.0], [99.0] * 4])
    mask = torch.tensor([[True, True, True, False], [True, False, False, False], [False] * 4])
    weights = (torch.full((3, 4), 2.0), torch.full((3, 4), 0.5))
    assert uvr_loss(vsl, 2 * vsl, weights, mask).tolist() == [6.0, 15.0, 0.0]


@pytest.mark.parametrize(("imitate", "expected"), [("all", 10.048294), ("above_mean", 7.966974)])
def test_the_loss_that_trains_keeps_its_value(imitate: str, expected: float) -> None:
    sid = torch.tensor([[[3.0, 2.0, 1.0, 4.0]], [[2.0, 5.0, 1.5, 0.0]]])
    reward = torch.tensor([[9.0, 2.0, 1.0, 4.0], [1.0, 3.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    lists = ListBatch(-sid[:, 0], -sid[:, 0] + 0.1, reward, mask)
    settings = {"preference": {"method": "rspo", "unified": True}, "uvr": {"imitate": imitate}}
    loss, _ = list_loss({"sid": sid, "mtp": 2 * sid}, lists, ObjectivesConfig.parse(settings))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
