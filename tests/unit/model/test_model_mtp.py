"""The DeepSeek-style decoder: its step path against training, its search against the slow judge, and that it learns."""

from __future__ import annotations

import pytest
import torch
from tests.support.decoding_samples import CONFIG, catalogue, context_of

from adbeam.decoding import Decoder, Trie
from adbeam.decoding.exhaustive import brute_force, score_all
from adbeam.features.batch import TrainBatch
from adbeam.model import build_model
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR, parameter_count
from adbeam.model.mtp import MtpDecoder
from adbeam.objectives.config import ObjectivesConfig
from adbeam.training.loop import vsl_of


def model_of(**changes: object) -> MtpDecoder:
    torch.manual_seed(0)
    model = build_model(CONFIG.model_copy(update={"decoder": "mtp", **changes})).eval()
    assert isinstance(model, MtpDecoder)
    return model


def batch_of(config: ModelConfig, size: int = 6, targets: int = 5) -> TrainBatch:
    generator = torch.Generator().manual_seed(1)
    shape = (size, 1, targets)
    code = torch.stack([torch.randint(0, n, shape, generator=generator) for n in config.codebooks], dim=-1)
    bucket = torch.randint(-1, config.ecpm_buckets, shape, generator=generator)
    visible = torch.full((size, 1), config.context_length)
    return TrainBatch(context_of(config, size), visible, code, bucket, torch.ones(shape))


@pytest.mark.parametrize("prior", [False, True])
def test_training_and_search_score_alike(prior: bool) -> None:
    model = model_of(history_prior=prior)
    batch = batch_of(model.config, size=3)
    sids = batch.code_BPMT[0, 0]
    expected, _ = score_all(model, batch.context, sids)
    repeated = TrainBatch(
        batch.context, batch.visible_BP, sids.expand(3, 1, -1, -1), batch.bucket_BPM, batch.weight_BPM
    )
    with torch.no_grad():
        losses = model.train_losses(repeated)
    torch.testing.assert_close(-losses["sid"][:, 0], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses["level"].sum(0), losses["sid"])
    assert (losses["ecpm"][repeated.bucket_BPM < 0] == 0).all() and "mtp" not in losses


@pytest.mark.parametrize("prior", [False, True])
def test_the_beam_search_finds_what_the_slow_judge_ranks_first(prior: bool) -> None:
    model = model_of(history_prior=prior)
    codes = catalogue(300)
    decoder = Decoder(model, Trie.build(codes, model.config.codebooks), order_by="log_probability")
    context = context_of(model.config, 3)
    results = decoder.decode(context, [(32, 64, 300), (4, 8, 8), (32, 64, 300)])
    value, sid = brute_force(model, context, torch.unique(torch.from_numpy(codes), dim=0))
    for b in (0, 2):
        torch.testing.assert_close(results[b].log_probability_n[:10], value[b, :10], atol=1e-4, rtol=1e-4)
        assert torch.equal(results[b].sids_nT[:5], sid[b, :5])
    assert results[1].size == 8


def test_later_steps_cost_one_block_and_have_weights_of_their_own() -> None:
    model = model_of()
    lazy = LazyAR(CONFIG)
    assert parameter_count(model) > parameter_count(lazy)
    assert len(model.extra) == len(CONFIG.codebooks)
    model.get_parameter("extra.1.ffn.out.weight").data.add_(1.0)
    state = model.encode(context_of(model.config, 2))
    with torch.no_grad():
        again = model_of()
        trunk = again.trunk(again.encode(context_of(model.config, 2)))
        torch.testing.assert_close(model.trunk(state), trunk)


def test_vsl_trains_it() -> None:
    torch.manual_seed(0)
    model = model_of().train()
    batch = batch_of(model.config, targets=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss, metrics = vsl_of(model, batch, ObjectivesConfig())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0] and "mtp" not in metrics
    used = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert used == []


def test_more_than_one_prefix_is_refused() -> None:
    model = model_of()
    batch = batch_of(model.config)
    two = TrainBatch(batch.context, batch.visible_BP.repeat(1, 2), batch.code_BPMT.repeat(1, 2, 1, 1),
                     batch.bucket_BPM.repeat(1, 2, 1), batch.weight_BPM.repeat(1, 2, 1))  # fmt: skip
    with pytest.raises(ValueError, match="one prefix"):
        model.train_losses(two)
