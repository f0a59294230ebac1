"""All prefixes of a user in one pass: the loss of one sample a target, and batches without much padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adbeam.features.batch import TrainBatch
from adbeam.features.spec import FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR
from adbeam.training.data.prefixes import PrefixOrder, history_context, mean_over_targets, prefix_batch

CONFIG = ModelConfig(
    width=32, layers=3, lazy_layers=2, heads=4, context_kv_heads=4, context_kv_groups=3, codebooks=(11, 7, 5),
    ecpm_buckets=2, short_length=8, long_length=0, item_buckets=64, prefix_buckets=64, user_buckets=1,
    path_codes=True, recency_bias=True,
)  # fmt: skip
SPEC = FeatureSpec.of(CONFIG)


def histories(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.stack([rng.integers(0, size, n) for size in CONFIG.codebooks], axis=1) for n in lengths]


def one_sample_a_target(users: list[np.ndarray]) -> TrainBatch:
    """Each target with a context of its own, as rows give it."""
    samples = [(user[:end], user[end]) for user in users for end in range(1, len(user))]
    context = history_context([past for past, _ in samples], SPEC)
    code = torch.from_numpy(np.stack([target for _, target in samples]))[:, None, None]
    shape = code.shape[:3]
    everything = torch.full(shape[:2], CONFIG.context_length)
    return TrainBatch(context, everything, code, torch.full(shape, -1), torch.ones(shape))


@pytest.mark.parametrize("lazy_layers", [0, 2])
@pytest.mark.parametrize("lambda_mtp", [0.0, 0.3])
@pytest.mark.parametrize("history_layers", [0, 2])
def test_one_pass_is_one_sample_a_target(lazy_layers: int, lambda_mtp: float, history_layers: int) -> None:
    torch.manual_seed(0)
    model = LazyAR(CONFIG.model_copy(update={"lazy_layers": lazy_layers, "history_layers": history_layers}))
    users = histories([5, 2, 9, 3])
    found = []
    for batch in (prefix_batch(users, SPEC), one_sample_a_target(users)):
        model.zero_grad()
        loss = mean_over_targets(model.train_losses(batch, mtp=lambda_mtp > 0, ecpm=False), batch, lambda_mtp)
        loss.backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append((loss.detach(), torch.cat([part.flatten() for part in gradients])))
    (together, gradient), (alone, wanted) = found
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


def test_a_context_holds_the_newest_events() -> None:
    (user,) = histories([12])
    context = history_context([user], SPEC)
    assert context.code_BST[0, 1:].tolist() == user[-8:].tolist()
    assert context.mask_BS.all()


def test_every_user_comes_once_an_epoch_and_padding_is_small() -> None:
    rng = np.random.default_rng(0)
    order = PrefixOrder(np.clip(rng.geometric(0.16, 5000) + 2, 3, 51), targets=512, seed=3)
    first, second = order.batches(0), order.batches(1)
    assert np.array_equal(np.sort(np.concatenate(first)), np.arange(5000))
    assert [list(users) for users in first] == [list(users) for users in order.batches(0)]
    assert [list(users) for users in first] != [list(users) for users in second]
    assert order.padding_share(0) < 0.1
    assert max(len(users) * (order.length_U[users].max() - 1) for users in first) <= 512
