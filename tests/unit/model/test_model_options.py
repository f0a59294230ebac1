"""Options of the network: layers that begin at zero, smoothed targets, cosine logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from adbeam.features.batch import ContextBatch, TrainBatch
from adbeam.features.spec import FeatureSpec
from adbeam.features.tokens import SHORT
from adbeam.model import build_model
from adbeam.model.config import ModelConfig
from adbeam.model.heads import SidDecoder

CONFIG = ModelConfig(
    width=16, layers=4, lazy_layers=2, heads=2, codebooks=(4, 3, 5), short_length=4, long_length=0, item_buckets=64,
    prefix_buckets=64, user_buckets=1, ecpm_buckets=2,
)  # fmt: skip
SPEC = FeatureSpec.of(CONFIG)


def model_of(**changes: object) -> SidDecoder:
    torch.manual_seed(0)
    return build_model(CONFIG.model_copy(update=changes)).eval()


def batch() -> TrainBatch:
    torch.manual_seed(1)
    code, target = (torch.stack([torch.randint(0, size, shape) for size in CONFIG.codebooks], -1)
                    for shape in ((3, 5), (3, 1, 2)))  # fmt: skip
    feature = torch.zeros(3, 5, len(SPEC.token_sizes), dtype=torch.int64)
    feature[:, 1:, 0] = SHORT
    code[:, 0] = -1
    static = torch.zeros(3, len(SPEC.static_sizes), dtype=torch.int64)
    context = ContextBatch.of(static.numpy(), code.numpy(), feature.numpy())
    whole = torch.full((3, 1), 5)
    return TrainBatch(context, whole, target, torch.full((3, 1, 2), -1), torch.ones(3, 1, 2))


def losses(model: SidDecoder) -> torch.Tensor:
    level: torch.Tensor = model.train_losses(batch(), mtp=False)["level"]
    return level


def test_layers_from_zero_change_nothing_at_first_and_learn() -> None:
    plain, layered = model_of(), model_of(history_layers=2, history_from_zero=True)
    shared = {name: value for name, value in layered.state_dict().items() if not name.startswith("context.history.")}
    plain.load_state_dict(shared)
    torch.testing.assert_close(losses(layered), losses(plain))
    assert not torch.allclose(losses(model_of(history_layers=2)), losses(layered))
    losses(layered).sum().backward()
    moved = [
        value.grad
        for name, value in layered.named_parameters()
        if name.startswith("context.history") and ".out." in name
    ]
    assert len(moved) == 8 and all(grad is not None and grad.any() for grad in moved)


@pytest.mark.parametrize("decoder", ["lazyar", "mtp"])
def test_targets_are_smoothed_in_training_only(decoder: str) -> None:
    plain, smooth = model_of(decoder=decoder), model_of(decoder=decoder, label_smoothing=0.1)
    torch.testing.assert_close(losses(plain), losses(smooth))
    plain.train(), smooth.train()
    assert not torch.allclose(losses(plain)[0], losses(smooth)[0])
    assert not torch.allclose(losses(plain)[1:], losses(smooth)[1:])


def test_a_shared_loss_is_smoothed_as_torch_smooths() -> None:
    model = model_of(label_smoothing=0.2).train()
    given = batch()
    state = model.encode(given.context)
    first_B1D, _ = model.step(0, model.trunk(state), state)
    logits_BV = model.head(0, first_B1D)[:, 0].repeat_interleave(2, dim=0)
    expected = F.cross_entropy(logits_BV, given.code_BPMT[:, 0, :, 0].flatten(), reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(losses(model)[0].flatten(), expected)


def test_cosine_logits_know_no_length() -> None:
    model = model_of(cosine_temperature=0.5)
    h = torch.randn(3, CONFIG.width)
    logits = model.head(1, h)
    torch.testing.assert_close(model.head(1, 7 * h), logits)
    weight = model.codes[1].weight
    assert isinstance(weight, torch.Tensor)
    torch.testing.assert_close(logits, F.cosine_similarity(h[:, None], weight[None], dim=-1) / 0.5)
    assert logits.abs().max() <= 2.0 + 1e-5


def test_models_without_the_options_are_described_as_before() -> None:
    named = {"history_from_zero", "label_smoothing", "cosine_temperature"}
    assert not named & ModelConfig().model_dump().keys()
    assert (
        named
        <= CONFIG.model_copy(update={"history_from_zero": True, "label_smoothing": 0.1, "cosine_temperature": 0.1})
        .model_dump()
        .keys()
    )
