"""HSD against its equations: the mask by loops, slices by type against single tokens, and nothing of the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.support.decoding_samples import CONFIG, context_of

from adbeam.features.batch import ContextBatch, TrainBatch
from adbeam.features.contexts import Moment, build_contexts
from adbeam.features.history import History
from adbeam.features.spec import FeatureSpec
from adbeam.model import build_model
from adbeam.model.config import GprConfig, ModelConfig
from adbeam.model.gpr import Gpr
from adbeam.model.hsd.block import HybridAttention, TokenAwareNorm, hybrid_mask
from adbeam.model.hsd.context import HsdContext
from adbeam.model.hsd.tokens import ADVERT, ENVIRONMENT, ORGANIC, TYPES, USER, TypeSlices
from adbeam.model.layers import FeedForward
from adbeam.records import ACTIONS
from adbeam.settings import Section

MIXTURE = (0.4, 0.3, 0.2, 0.1)
GPR = CONFIG.model_copy(update={"decoder": "gpr", "lazy_layers": 0})
HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000


def gpr_of(config: ModelConfig = GPR) -> Gpr:
    torch.manual_seed(0)
    model = build_model(config).eval()
    assert isinstance(model, Gpr)
    return model


def context_processor(model: Gpr) -> HsdContext:
    assert isinstance(model.context, HsdContext)
    return model.context


def targets_of(context: ContextBatch, config: ModelConfig, targets: int = 2) -> TrainBatch:
    generator = torch.Generator().manual_seed(5)
    shape = (context.size, 1, targets)
    code = torch.stack([torch.randint(0, n, shape, generator=generator) for n in config.codebooks], dim=-1)
    visible = torch.full(shape[:2], config.context_length)
    return TrainBatch(context, visible, code, torch.ones(shape, dtype=torch.int64), torch.ones(shape))


def history(hours: list[int], seed: int = 0) -> History:
    """Events so many hours before NOW_MS, of items of all kinds."""
    rng, H = np.random.default_rng(seed), len(hours)
    return History(
        np.stack([rng.integers(0, size, H) for size in GPR.codebooks], axis=1),
        NOW_MS - np.array(hours, dtype=np.int64) * HOUR_MS,
        rng.integers(ACTIONS.index("impression") + 1, len(ACTIONS), H),
        rng.integers(0, 2, H),
        rng.uniform(1, 9, H).astype(np.float32),
    )


def losses(model: Gpr, told: History) -> torch.Tensor:
    contexts = build_contexts([told], [Moment(NOW_MS, "display", "anna")], FeatureSpec.of(model.config))
    return model.train_losses(targets_of(contexts.batch(), model.config))["sid"]


def test_the_mask_is_eq_2() -> None:
    types = [USER, USER, ORGANIC, ADVERT, ORGANIC, ADVERT, ADVERT, ENVIRONMENT]
    there = [True, True, True, True, True, False, True, True]
    seen_NN = hybrid_mask(torch.tensor([types]), torch.tensor([there]))[0]
    for i, of_i in enumerate(types):
        for j, of_j in enumerate(types):
            prefix = of_i in (USER, ORGANIC, ENVIRONMENT) and of_j in (USER, ORGANIC, ENVIRONMENT)
            assert bool(seen_NN[i, j]) == (((j <= i or prefix) and there[j]) or i == j)


def test_hybrid_attention_is_eq_1() -> None:
    torch.manual_seed(1)
    layer, x_1ND = HybridAttention(GPR), torch.randn(1, 5, GPR.width)
    types = torch.tensor([[USER, ADVERT, ORGANIC, ADVERT, ENVIRONMENT]])
    seen = hybrid_mask(types, torch.ones_like(types, dtype=torch.bool))[0]
    query, key, value, gate = layer.project(x_1ND[0]).split(GPR.width, dim=-1)
    rows = []
    for i in range(5):
        heads = []
        for h in range(GPR.heads):
            own = slice(h * GPR.head_width, (h + 1) * GPR.head_width)
            score = torch.stack([query[i, own] @ key[j, own] / GPR.head_width**0.5 for j in range(5)])
            share = score.masked_fill(~seen[i], float("-inf")).softmax(0)
            heads.append((share[:, None] * value[:, own]).sum(0) * F.silu(gate[i, own]))
        rows.append(layer.out(torch.cat(heads)))
    torch.testing.assert_close(layer(x_1ND, seen[None])[0], torch.stack(rows), atol=1e-5, rtol=1e-4)


def test_slices_by_type_equal_the_loop_over_tokens() -> None:
    torch.manual_seed(2)
    nets = [FeedForward(GPR) for _ in range(TYPES)]
    x_BND, type_BN = torch.randn(3, 7, GPR.width), torch.randint(0, 3, (3, 7))  # one type is missing
    mask_BN = torch.rand(3, 7) < 0.7
    found = TypeSlices.of(type_BN, mask_BN).apply(nets, x_BND)
    norm = TokenAwareNorm(GPR.width)
    torch.nn.init.normal_(norm.gain)
    torch.nn.init.normal_(norm.bias)
    normal = norm(x_BND, type_BN)
    for b in range(3):
        for n in range(7):
            kind = int(type_BN[b, n])
            expected = nets[kind](x_BND[b, n]) if mask_BN[b, n] else torch.zeros(GPR.width)
            torch.testing.assert_close(found[b, n], expected, atol=1e-5, rtol=1e-4)
            alone = F.layer_norm(x_BND[b, n], (GPR.width,), norm.gain[kind], norm.bias[kind])
            torch.testing.assert_close(normal[b, n], alone, atol=1e-5, rtol=1e-4)


def test_the_sequence_holds_user_items_events_environment() -> None:
    model, context = gpr_of(), context_of(GPR, 3)
    tokens = context_processor(model).tokens(context, model.codes)
    split = 1 + GPR.short_length
    assert tokens.x_BND.shape[:2] == (3, GPR.context_length + 1)
    assert (tokens.type_BN[:, : 1 + GPR.long_length] == USER).all() and (tokens.type_BN[:, -1] == ENVIRONMENT).all()
    assert torch.equal(tokens.mask_BN[:, 1 + GPR.long_length : -1], context.mask_BS[:, 1:split])
    kinds = context.feature_BSC[:, 1:split, 2]
    assert torch.equal(tokens.type_BN[:, 1 + GPR.long_length : -1] == ORGANIC, kinds == 1)


def test_user_and_environment_read_their_own_features() -> None:
    model, context = gpr_of(), context_of(GPR, 2)
    tokens = context_processor(model).tokens(context, model.codes).x_BND
    names = list(FeatureSpec.of(GPR).static)
    for name, place, other in (("scene", -1, 0), ("hour", -1, 0), ("user", 0, -1), ("activity", 0, -1)):
        static_BF = context.static_BF.clone()
        static_BF[:, names.index(name)] = (static_BF[:, names.index(name)] + 1) % FeatureSpec.of(GPR).static[name]
        changed = context_processor(model).tokens(replace(context, static_BF=static_BF), model.codes).x_BND
        assert not torch.allclose(changed[:, place], tokens[:, place])
        assert torch.equal(changed[:, other], tokens[:, other])


def test_nothing_at_or_after_the_request_changes_a_loss() -> None:
    model = gpr_of()
    told = history([90, 50, 20, 9, 3, 1])
    future = history([0, -1, -5, -30], seed=7)
    both = History(*(np.concatenate([getattr(one, name) for one in (told, future)])
                     for name in ("code_HT", "timestamp_H", "action_H", "kind_H", "value_H")))  # fmt: skip
    assert torch.equal(losses(model, told), losses(model, both))
    assert not torch.equal(losses(model, told), losses(model, history([90, 50, 20, 9, 3], seed=1)))


def test_what_is_at_empty_places_changes_nothing() -> None:
    model, context = gpr_of(), context_of(GPR, 4)
    feature = context.feature_BSC.clone()
    feature[~context.mask_BS] = 0
    before, after = (model.train_losses(targets_of(c, GPR))["sid"]
                     for c in (context, replace(context, feature_BSC=feature)))  # fmt: skip
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("thinking", [0, 4])
def test_every_weight_of_hsd_learns(thinking: int) -> None:
    config = GPR.model_copy(update={"gpr": GprConfig(thinking_tokens=thinking)})
    model = gpr_of(config)
    found = model.train_losses(targets_of(context_of(config, 8), config))
    (found["sid"] + found["ecpm"]).sum().backward()
    for name, parameter in model.context.named_parameters():
        if ".hsd." in name or ".thinking." in name:
            assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0), name


def test_a_small_market_of_one_law_is_learnt() -> None:
    """The next ad is the user's last item: the loss falls far below that of the best constant guess."""
    model, context = gpr_of().train(), context_of(GPR, 64)
    last_B = torch.where(context.mask_BS[:, 1:7], torch.arange(6), -1).amax(1)
    kept = last_B >= 0
    context, last_B = context.rows(kept.nonzero()[:, 0]), last_B[kept]
    target = context.code_BST[torch.arange(context.size), 1 + last_B]
    batch = replace(targets_of(context, GPR, 1), code_BPMT=target[:, None, None])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    seen = []
    for _ in range(60):
        loss = model(batch)["sid"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < 0.3 * seen[0]


def test_a_shape_without_hsd_is_described_as_before() -> None:
    assert {"context", "gpr"}.isdisjoint(CONFIG.model_dump())
    assert ModelConfig.model_validate(GPR.model_dump()) == GPR
    hsd = ModelConfig(context="hsd", gpr=GprConfig(hsd_layers=1))
    assert issubclass(GprConfig, Section) and ModelConfig.model_validate(hsd.model_dump()) == hsd


@pytest.mark.parametrize("wrong", [{"history_layers": 1}, {"recency_bias": True}, {"neighbour_prior": {}}])
def test_parts_of_the_linear_context_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="belong to context linear"):
        ModelConfig(decoder="gpr", **wrong)


def four_heads() -> Gpr:
    return gpr_of(GPR.model_copy(update={"gpr": GprConfig(head_weights=MIXTURE)}))


def of_heads(batch: TrainBatch, heads: list[list[int]]) -> TrainBatch:
    return replace(batch, head_BPM=torch.tensor(heads)[:, None])


def test_a_head_learns_from_its_own_targets_alone() -> None:
    for head in range(4):
        model = four_heads()
        batch = of_heads(targets_of(context_of(GPR, 3), GPR, 4), [[0, 1, 2, 3]] * 3)
        model.train_losses(batch)["sid"][..., head].sum().backward()
        thinking = context_processor(model).thinking
        assert thinking is not None and thinking.token.grad is not None
        learnt = thinking.token.grad.abs().sum((1, 2)) > 0
        assert learnt.tolist() == [place == head for place in range(4)]


def test_losses_of_heads_are_those_of_each_head_read_alone() -> None:
    model, context = four_heads(), context_of(GPR, 3)
    heads = [[0, 0, 1, 2], [0, 1, 2, 3], [3, 0, 0, 0]]
    batch = targets_of(context, GPR, 4)
    found = model.train_losses(of_heads(batch, heads))
    for head in range(4):
        alone = model.train_losses(replace(batch, context=replace(context, head_B=torch.full((3,), head))))
        for name in ("sid", "ecpm", "mtp", "level"):
            mine = (torch.tensor(heads) == head)[:, None]
            torch.testing.assert_close(found[name][..., mine], alone[name][..., mine], atol=1e-5, rtol=1e-4)


def test_without_named_heads_the_first_learns_all() -> None:
    model, batch = four_heads(), targets_of(context_of(GPR, 3), GPR, 4)
    torch.testing.assert_close(
        model.train_losses(batch)["sid"], model.train_losses(of_heads(batch, [[0] * 4] * 3))["sid"]
    )


@pytest.mark.parametrize("wrong", [(0.5, 0.4), (1.5, -0.5), ()])
def test_head_weights_that_are_no_mixture_are_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="head_weights"):
        GprConfig(head_weights=wrong)
