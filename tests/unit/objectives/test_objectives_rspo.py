"""RSPO against S-DPO, DPO and its own bounds (papers' unit tests 5, 6, 7)."""

from __future__ import annotations

import math

import pytest
import torch

from adbeam.objectives.config import RspoConfig
from adbeam.objectives.preference import descending_rank, dpo_loss, gain, lambda_weight, ndcg_loss2, sdpo_loss
from adbeam.objectives.rspo import ListBatch, reference_gate, rspo_loss, rspo_terms, softmax_terms

NAN = float("nan")


def draw(lists: int, size: int, seed: int = 0) -> ListBatch:
    generator = torch.Generator().manual_seed(seed)
    policy = -5 * torch.rand(lists, size, generator=generator)
    reward = 100 * torch.rand(lists, size, generator=generator)
    reference = policy + 0.1 * torch.randn(lists, size, generator=generator)
    return ListBatch(policy.requires_grad_(), reference, reward, torch.ones(lists, size, dtype=torch.bool))


def test_without_weights_and_gate_it_is_sdpo() -> None:
    lists = draw(8, 6)
    best_first = torch.zeros(8, 6, 6, dtype=torch.bool)
    best_first[:, 0, 1:] = True
    ones = torch.ones(8, 6, 6)
    term = softmax_terms(lists, ones, best_first, torch.ones(8, 6, dtype=torch.bool), beta=0.7)
    expected = sdpo_loss(lists.policy_BN, lists.reference_BN, lists.mask_BN, beta=0.7) / math.log(2)
    torch.testing.assert_close(term[:, 0], expected)
    assert not term[:, 1:].any()


def test_with_one_negative_it_is_dpo() -> None:
    lists = draw(8, 2)
    lower = torch.tensor([[False, True], [False, False]]).expand(8, 2, 2)
    term = softmax_terms(lists, torch.ones(8, 2, 2), lower, torch.ones(8, 2, dtype=torch.bool), beta=0.3)
    torch.testing.assert_close(term[:, 0], dpo_loss(lists.policy_BN, lists.reference_BN, beta=0.3) / math.log(2))


def test_gradient_pushes_the_better_up_and_all_lower_ones_down() -> None:
    lists = draw(20, 7)
    term, _ = rspo_terms(lists, RspoConfig())
    for i in range(7):
        (gradient,) = torch.autograd.grad(term[:, i].sum(), lists.policy_BN, retain_graph=True)
        lower = lists.reward_BN < lists.reward_BN[:, i : i + 1]
        assert (gradient[:, i] <= 0).all() and (gradient[:, i][lower.any(1)] < 0).all()
        assert (gradient[lower] > 0).all()
        others = ~lower
        others[:, i] = False
        assert not gradient[others].any()


@pytest.mark.parametrize("size", [2, 5, 16])
def test_lambda_weights_by_reward_sum_below_one(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    reward = 5 * torch.rand(2000, size, generator=generator)
    mask = torch.ones_like(reward, dtype=torch.bool)
    weight = lambda_weight(reward, mask, descending_rank(reward, mask))
    lower = reward[:, None, :] < reward[:, :, None]
    total = (weight * lower).sum(-1)
    assert total.max() < 1
    bound = gain(reward, mask) * (1 - 1 / math.log2(1 + size))
    assert (total <= bound + 1e-5).all()
    assert total.max() > 0.1


def test_lambda_weight_of_neighbours() -> None:
    reward = torch.tensor([[3.0, 1.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    weight = lambda_weight(reward, mask, descending_rank(reward, mask))
    gains = gain(reward, mask)[0]
    assert weight[0, 0, 1].item() == pytest.approx(0.3691 * abs(gains[0] - gains[1]).item(), abs=1e-4)
    assert gains[0].item() == pytest.approx(7 / (7 + 1 / math.log2(3)))


def test_rank_source_changes_the_weights() -> None:
    lists = draw(16, 8)
    by_reward, _ = rspo_loss(lists, RspoConfig(rank_source="reward"))
    by_policy, _ = rspo_loss(lists, RspoConfig(rank_source="policy"))
    assert not torch.allclose(by_reward, by_policy)


def test_a_stale_reference_does_not_matter() -> None:
    """A mean log-ratio above delta: the loss is that without reference; below, the reference counts."""
    lists = draw(8, 5)
    stale = ListBatch(lists.policy_BN, lists.policy_BN.detach() - 50, lists.reward_BN, lists.mask_BN)
    staler = ListBatch(lists.policy_BN, stale.reference_BN - torch.rand(8, 5), lists.reward_BN, lists.mask_BN)
    none = ListBatch(lists.policy_BN, torch.full((8, 5), NAN), lists.reward_BN, lists.mask_BN)
    losses = [rspo_loss(x, RspoConfig(delta=1.0))[0] for x in (stale, staler, none, lists)]
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])
    assert not torch.allclose(losses[0], losses[3])


def test_one_missing_reference_opens_only_the_sets_it_is_in() -> None:
    reward = torch.tensor([[3.0, 2.0, 1.0]])
    policy, mask = torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool)
    lists = ListBatch(policy, torch.tensor([[NAN, 0.0, 0.0]]), reward, mask)
    lower = reward[:, None, :] < reward[:, :, None]
    assert reference_gate(lists, lower, delta=1.0).tolist() == [[False, True, True]]


def test_lists_without_a_signal() -> None:
    mask = torch.tensor([[True, False, False], [True, True, True], [True, True, False]])
    reward = torch.tensor([[5.0, 1.0, 2.0], [4.0, 4.0, 4.0], [NAN, 3.0, 1.0]])
    policy = torch.zeros(3, 3, requires_grad=True)
    loss, signal = rspo_loss(ListBatch(policy, torch.full((3, 3), NAN), reward, mask), RspoConfig())
    loss.sum().backward()
    assert signal.tolist() == [False, False, False] and loss.tolist() == [0, 0, 0]
    assert policy.grad is not None and not policy.grad.any()


def test_extreme_rewards_stay_finite() -> None:
    reward = torch.tensor([[1e9, 0.0, 1e-9, -3.0, float("inf"), 7.0]])
    policy = torch.tensor([[-80.0, -1.0, -300.0, -2.0, -5.0, 0.0]], requires_grad=True)
    mask = torch.ones(1, 6, dtype=torch.bool)
    loss, _ = rspo_loss(ListBatch(policy, torch.zeros(1, 6), reward, mask), RspoConfig(beta=1.0))
    loss.sum().backward()
    assert policy.grad is not None
    assert torch.isfinite(loss).all() and torch.isfinite(policy.grad).all() and policy.grad.any()


def test_padding_changes_nothing() -> None:
    lists = draw(4, 5)
    config = RspoConfig(reward_money=100.0)
    alone, _ = rspo_loss(lists, config)
    pad = torch.full((4, 3), 7.0)
    mask = torch.cat([lists.mask_BN, torch.zeros(4, 3, dtype=torch.bool)], dim=1)
    policy, reference, reward = (
        torch.cat([x, pad], dim=1) for x in (lists.policy_BN, lists.reference_BN, lists.reward_BN)
    )
    wide = ListBatch(policy, reference, reward, mask)
    torch.testing.assert_close(rspo_loss(wide, config)[0], alone)


def test_it_bounds_its_pairwise_parent() -> None:
    """Jensen: sum_i L_RSPO >= the NDCG-Loss2 of the same weights, as long as they sum below 1."""
    lists = draw(200, 10)
    config = RspoConfig(beta=1.0, delta=-1e9)
    term, _ = rspo_terms(lists, config)
    from adbeam.objectives.preference import scale_reward

    reward = scale_reward(lists.reward_BN, lists.mask_BN, config.reward_scale)
    rank = descending_rank(reward, lists.mask_BN)
    assert (term.sum(1) >= ndcg_loss2(lists.policy_BN, reward, lists.mask_BN, rank_BN=rank) - 1e-5).all()


def test_learning_orders_a_list_by_reward() -> None:
    reward = torch.tensor([[1.0, 30.0, 4.0, 10.0]])
    policy = torch.tensor([[3.0, 0.0, 2.0, 1.0]], requires_grad=True)
    optimiser = torch.optim.SGD([policy], lr=1.0)
    mask = torch.ones(1, 4, dtype=torch.bool)
    for _ in range(300):
        optimiser.zero_grad()
        rspo_loss(ListBatch(policy, torch.full((1, 4), NAN), reward, mask), RspoConfig(beta=1.0))[0].sum().backward()
        optimiser.step()
    assert policy.argsort(descending=True).tolist() == reward.argsort(descending=True).tolist()
