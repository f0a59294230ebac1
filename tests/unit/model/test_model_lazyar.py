"""LazyAR against its equations: Fuse, K = 0, independence of the trunk, and the search path against training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from adbeam.features.batch import ContextBatch, TrainBatch
from adbeam.features.spec import FeatureSpec
from adbeam.model.codes import Fuse
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR, parameter_count

SMALL = ModelConfig(
    width=32, layers=3, lazy_layers=2, heads=4, context_kv_heads=2, context_kv_groups=3, codebooks=(11, 7, 5),
    ecpm_buckets=6, short_length=6, long_length=4, item_buckets=64, prefix_buckets=64, user_buckets=16, dropout=0.0,
)  # fmt: skip


def random_context(config: ModelConfig, size: int, seed: int = 0) -> ContextBatch:
    """Contexts with random features and some missing tokens."""
    generator = torch.Generator().manual_seed(seed)
    spec = FeatureSpec.of(config)

    def draw(sizes: list[int], *shape: int) -> torch.Tensor:
        return torch.stack([torch.randint(0, n, (size, *shape), generator=generator) for n in sizes], dim=-1)

    code_BST = draw(list(config.codebooks), config.context_length)
    mask_BS = torch.rand(size, config.context_length, generator=generator) < 0.8
    mask_BS[:, 0] = True
    code_BST[~mask_BS] = -1
    code_BST[:, 0] = -1
    return ContextBatch(
        draw(list(spec.static.values())), code_BST, draw(list(spec.token.values()), config.context_length), mask_BS
    )


def random_batch(config: ModelConfig, size: int, targets: int, prefixes: int = 1, seed: int = 0) -> TrainBatch:
    generator = torch.Generator().manual_seed(seed + 1)
    shape = (size, prefixes, targets)
    code = torch.stack([torch.randint(0, n, shape, generator=generator) for n in config.codebooks], dim=-1)
    visible = torch.randint(1, config.context_length + 1, shape[:2], generator=generator)
    bucket = torch.randint(-1, config.ecpm_buckets, shape, generator=generator)
    return TrainBatch(random_context(config, size, seed), visible, code, bucket, torch.ones(shape))


def model_of(**changes: object) -> LazyAR:
    torch.manual_seed(0)
    return LazyAR(SMALL.model_copy(update=changes)).eval()


def decode_path(model: LazyAR, context: ContextBatch, code_BMT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probability [B, M] of given paths, eCPM logits [B, M, buckets]), level by level as a search does."""
    state = model.encode(context)
    trunk = model.trunk(state)
    h, cache = model.step(0, trunk, state)
    total = torch.zeros(code_BMT.shape[:2])
    parent = torch.zeros(code_BMT.shape[:2], dtype=torch.int64)
    for level in range(model.config.levels):
        log_p = F.log_softmax(model.head(level, h), dim=-1).expand(-1, code_BMT.shape[1], -1)
        total = total + log_p.gather(-1, code_BMT[..., level, None])[..., 0]
        h, cache = model.step(level + 1, trunk, state, code_BMT[..., level], parent, cache)
        parent = torch.arange(code_BMT.shape[1]).expand_as(parent)
    return total, model.head(model.config.levels, h)


def test_fuse_without_gate_sees_only_the_code() -> None:
    fuse = Fuse(8)
    torch.nn.init.zeros_(fuse.gate.weight)
    s = torch.randn(3, 8)
    assert torch.equal(fuse(torch.randn(3, 8), s), fuse(torch.randn(3, 8), s))


def test_fuse_is_its_equation() -> None:
    fuse, m, s = Fuse(8), torch.randn(5, 8), torch.randn(5, 8)
    expected = torch.cat([m * (s @ fuse.gate.weight.T), s], dim=-1) @ fuse.project.weight.T
    torch.testing.assert_close(fuse(m, s), expected)


def test_no_lazy_layer_is_the_plain_decoder() -> None:
    """K = 0: layer 0 of an ordinary decoder reads Fuse(p_t, s_{t-1})."""
    model = model_of(lazy_layers=0)
    batch = random_batch(model.config, size=3, targets=2)
    state = model.encode(batch.context)
    position, bos = model.steps()
    nll = torch.zeros(3, 2)
    for b in range(3):
        for m in range(2):
            code = batch.code_BPMT[b, 0, m]
            previous = torch.stack([bos, *(model.embed_previous(code[: t + 1]) for t in range(3))])
            x = model.fuse(position, previous)[None, None]
            only = state.rows(slice(b, b + 1))
            visible = batch.visible_BP[b : b + 1]
            for index, block in enumerate(model.blocks):
                x, _ = block(x, *only.layers[index], only.bias(visible))
            for t in range(3):
                logits = F.linear(model.norm(x[0, 0, t]), model.get_parameter(f"codes.{t}.weight"))
                nll[b, m] -= F.log_softmax(logits, dim=-1)[code[t]]
    torch.testing.assert_close(model.train_losses(batch)["sid"][:, 0], nll, atol=1e-4, rtol=1e-4)


def test_trunk_knows_no_code_and_is_one_for_all_beams() -> None:
    model = model_of()
    context = random_context(model.config, 4)
    seen: list[torch.Tensor] = []
    model.fuse.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    batch = random_batch(model.config, size=4, targets=5)
    other = TrainBatch(
        batch.context, batch.visible_BP, (batch.code_BPMT + 1) % torch.tensor(model.config.codebooks),
        batch.bucket_BPM, batch.weight_BPM,
    )  # fmt: skip
    losses = model.train_losses(batch)["sid"], model.train_losses(other)["sid"]
    of_batch, of_other = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert all(torch.equal(a, b) for a, b in zip(of_batch, of_other, strict=True))
    assert of_batch[-1].shape[2] == 1, "one trunk for all targets of a prefix"
    assert not torch.allclose(*losses)
    assert model.trunk(model.encode(context)).shape == (4, 4, 32)


def test_previous_code_enters_behind_the_trunk() -> None:
    """Every level but the first depends on the code before it; no level on a later one."""
    model = model_of()
    batch = random_batch(model.config, size=2, targets=1)
    before = model.train_losses(batch)["level"]
    changed = batch.code_BPMT.clone()
    changed[..., 1] = (changed[..., 1] + 1) % model.config.codebooks[1]
    after = model.train_losses(
        TrainBatch(batch.context, batch.visible_BP, changed, batch.bucket_BPM, batch.weight_BPM)
    )["level"]
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[2], after[2])


@pytest.mark.parametrize("lazy_layers", [0, 2])
@pytest.mark.parametrize(
    "switches", [{}, {"separate_values": True}, {"path_codes": True}, {"recency_bias": True}], ids=str
)
def test_training_and_search_compute_the_same_numbers(lazy_layers: int, switches: dict[str, bool]) -> None:
    model = model_of(lazy_layers=lazy_layers, **switches)
    batch = random_batch(model.config, size=3, targets=4)
    everything = torch.full_like(batch.visible_BP, model.config.context_length)
    batch = TrainBatch(batch.context, everything, batch.code_BPMT, batch.bucket_BPM, batch.weight_BPM)
    losses = model.train_losses(batch)
    log_p, ecpm_logits = decode_path(model, batch.context, batch.code_BPMT[:, 0])
    torch.testing.assert_close(losses["sid"][:, 0], -log_p, atol=1e-4, rtol=1e-4)
    bucket = batch.bucket_BPM[:, 0]
    ecpm = -F.log_softmax(ecpm_logits, dim=-1).gather(-1, bucket.clamp_min(0)[..., None])[..., 0] * (bucket >= 0)
    torch.testing.assert_close(losses["ecpm"][:, 0], ecpm, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("recency_bias", [False, True])
def test_prefixes_of_one_context_equal_separate_contexts(recency_bias: bool) -> None:
    model = model_of(recency_bias=recency_bias)
    batch = random_batch(model.config, size=2, targets=3, prefixes=4)
    together = model.train_losses(batch)
    for p in range(4):
        context = batch.context
        place = torch.arange(model.config.context_length)
        cut = ContextBatch(
            context.static_BF, context.code_BST, context.feature_BSC,
            context.mask_BS & (place < batch.visible_BP[:, p, None]),
        )  # fmt: skip
        everything = torch.full((2, 1), model.config.context_length)
        pick = slice(p, p + 1)
        alone = model.train_losses(
            TrainBatch(cut, everything, batch.code_BPMT[:, pick], batch.bucket_BPM[:, pick], batch.weight_BPM[:, pick])
        )
        for name in ("sid", "ecpm", "mtp"):
            torch.testing.assert_close(together[name][:, pick], alone[name], atol=1e-4, rtol=1e-4)


def test_the_context_and_only_its_tokens_matter() -> None:
    model = model_of()
    batch = random_batch(model.config, size=2, targets=2)
    everything = torch.full_like(batch.visible_BP, model.config.context_length)
    rest = (everything, batch.code_BPMT, batch.bucket_BPM, batch.weight_BPM)
    context = batch.context
    junk = context.feature_BSC.clone()
    junk[~context.mask_BS] = 1
    same = ContextBatch(context.static_BF, context.code_BST, junk, context.mask_BS)
    code = context.code_BST.clone()
    code[context.mask_BS] = 0
    other = ContextBatch(context.static_BF, code, context.feature_BSC, context.mask_BS)
    before = model.train_losses(TrainBatch(context, *rest))["sid"]
    assert torch.equal(before, model.train_losses(TrainBatch(same, *rest))["sid"])
    assert not torch.allclose(before, model.train_losses(TrainBatch(other, *rest))["sid"])


def test_contexts_without_any_token_equal_those_whose_tokens_are_hidden() -> None:
    model = model_of()
    full = random_context(SMALL, 4)
    hidden = replace(full, mask_BS=full.mask_BS & (torch.arange(SMALL.context_length) == 0))
    bare = replace(full, code_BST=full.code_BST[:, :1], feature_BSC=full.feature_BSC[:, :1],
                   mask_BS=full.mask_BS[:, :1], short_places=0)  # fmt: skip
    code = torch.randint(0, 5, (4, 3, SMALL.levels), generator=torch.Generator().manual_seed(2))
    for expected, found in zip(decode_path(model, hidden, code), decode_path(model, bare, code), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_path_is_embedded_as_in_the_history() -> None:
    """Codes of one path add up to the embedding of the same item in the context, its features aside."""
    model, plain = model_of(path_codes=True), model_of(path_codes=False)
    code = torch.tensor([3, 2, 4])
    path_only = model.embed_previous(code) - plain.embed_previous(code)
    tables = model.context.token_embedding.weight[-SMALL.item_buckets - SMALL.prefix_buckets :]
    assert (tables[SMALL.prefix_buckets :] - path_only).abs().sum(-1).min() < 1e-5
    prefix_only = model.embed_previous(code[:2]) - plain.embed_previous(code[:2])
    assert (tables[: SMALL.prefix_buckets] - prefix_only).abs().sum(-1).min() < 1e-5
    assert torch.equal(model.embed_previous(code[:1]), model.get_parameter("codes.0.weight")[3])


def test_chosen_columns_of_a_head_equal_the_whole_head() -> None:
    model = model_of()
    h, column = torch.randn(2, 3, 32), torch.tensor([4, 0, 2])
    for level in range(3):
        torch.testing.assert_close(model.head(level, h, column), model.head(level, h)[..., column])


def test_a_log_without_values_needs_no_ecpm_step() -> None:
    model = model_of(recency_bias=True)
    batch = random_batch(model.config, size=3, targets=2, prefixes=2)
    whole, without = model.train_losses(batch), model.train_losses(batch, ecpm=False)
    assert "ecpm" in whole and "ecpm" not in without
    for name, loss in without.items():
        torch.testing.assert_close(loss, whole[name])


def test_every_weight_learns() -> None:
    model = model_of(recency_bias=True)
    losses = model.train_losses(random_batch(model.config, size=4, targets=2))
    (losses["sid"] + losses["ecpm"] + losses["mtp"]).sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_bfloat16_stays_near_float32() -> None:
    model = model_of()
    batch = random_batch(model.config, size=3, targets=2)
    exact = model.train_losses(batch)["sid"]
    coarse = model.bfloat16().train_losses(batch)["sid"]
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, exact, atol=0.3, rtol=0.05)


def test_paper_size_builds_without_memory() -> None:
    from adbeam.config import SIZES

    with torch.device("meta"):
        model = LazyAR(ModelConfig(**SIZES["paper"]["model"]))
    assert 0.14e9 < parameter_count(model) < 0.17e9


@pytest.mark.parametrize("lazy_layers", [0, 2])
def test_it_learns_to_copy(lazy_layers: int) -> None:
    """The target is the one item of the long pathway: found only by attending to it and naming its codes."""
    config = SMALL.model_copy(update={"lazy_layers": lazy_layers, "short_length": 1, "long_length": 3})
    torch.manual_seed(0)
    model = LazyAR(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(100):
        context = random_context(config, 64, seed=step)
        place = torch.randint(2, 5, (64, 1), generator=generator)
        mask = torch.zeros_like(context.mask_BS).scatter_(1, place, True)
        mask[:, 0] = True
        code = torch.stack([torch.randint(0, n, (64, 5), generator=generator) for n in config.codebooks], dim=-1)
        target = code.gather(1, place[..., None].expand(-1, -1, 3))
        batch = TrainBatch(
            ContextBatch(context.static_BF, code, context.feature_BSC, mask), torch.full((64, 1), 5),
            target[:, None], torch.full((64, 1, 1), -1), torch.ones(64, 1, 1),
        )  # fmt: skip
        loss = model(batch)["sid"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1.0, f"chance is {sum(torch.log(torch.tensor(config.codebooks).float())):.1f} nats"


@torch.no_grad()
def test_it_begins_by_copying_unless_told_not_to() -> None:
    """Before any training the first code of the one history item is likelier than chance; without copying it is not."""
    gains = {}
    for copies in (True, False):
        model = model_of(copy_at_start=copies, width=64, lazy_layers=0)
        context = random_context(model.config, 256)
        context.mask_BS[:, 2:] = False
        first_B = context.code_BST[:, 1, 0]
        kept_B = context.mask_BS[:, 1] & (first_B >= 0)
        state = model.encode(context)
        h, _ = model.step(0, model.trunk(state), state)
        log_p_BV = F.log_softmax(model.head(0, h)[:, 0], dim=-1)
        own_B = log_p_BV.gather(1, first_B.clamp_min(0)[:, None])[:, 0]
        gains[copies] = float((own_B - log_p_BV.mean(1))[kept_B].mean())
    assert gains[True] > 0.1 > abs(gains[False]), gains
