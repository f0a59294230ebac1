"""The search against a scorer that knows no trie, no beams and no shortcuts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.support.decoding_samples import CONFIG, assert_same_answer, catalogue, context_of, model_of, part

from adbeam.decoding import Decoder, DecodeResult, ItemFilter, Trie, brute_force, score_all
from adbeam.decoding.config import OrderBy
from adbeam.errors import UserError
from adbeam.features.batch import ContextBatch

WIDE = (32, 768, 2000)


def assert_same_list(result: DecodeResult, sids_nT: torch.Tensor, log_p_n: torch.Tensor) -> None:
    """The same ids with the same scores in the same order; ids may change places only where scores tie to 2e-5."""
    n = result.size
    assert torch.allclose(result.log_probability_n, log_p_n[:n], atol=1e-4)
    judged = dict(zip(map(tuple, sids_nT.tolist()), log_p_n.tolist(), strict=True))
    found = [judged[tuple(sid)] for sid in result.sids_nT.tolist()]
    assert len({tuple(sid) for sid in result.sids_nT.tolist()}) == n
    assert np.allclose(found, log_p_n[:n], atol=2e-5)


@pytest.mark.parametrize("lazy_layers", [0, 2])
@pytest.mark.parametrize(
    "switches",
    [{}, {"separate_values": True}, {"recency_bias": True}, {"history_layers": 2}, {"cosine_temperature": 0.3}],
    ids=str,
)
def test_exhaustive_widths_give_the_brute_force_list(lazy_layers: int, switches: dict[str, float]) -> None:
    config = CONFIG.model_copy(update={"lazy_layers": lazy_layers, **switches})
    model, sids_NT = model_of(config), catalogue()
    trie = Trie.build(sids_NT, config.codebooks)
    context = context_of(config, 4)
    results = Decoder(model, trie, order_by="log_probability").decode(context, [WIDE] * 4)
    log_p_Bn, ranked_BnT = brute_force(model, context, torch.from_numpy(trie.sids()))
    for b, result in enumerate(results):
        assert result.size == trie.live_sids == len(np.unique(sids_NT, axis=0))
        assert_same_list(result, ranked_BnT[b], log_p_Bn[b])


def test_last_width_cuts_the_exhaustive_list() -> None:
    model, trie = model_of(), Trie.build(catalogue(), CONFIG.codebooks)
    context = context_of(CONFIG, 8)
    results = Decoder(model, trie, order_by="log_probability").decode(context, [(32, 768, 50)] * 8)
    log_p_Bn, ranked_BnT = brute_force(model, context, torch.from_numpy(trie.sids()))
    for b, result in enumerate(results):
        assert result.size == 50
        assert_same_list(result, ranked_BnT[b], log_p_Bn[b])


def test_narrow_search_scores_what_it_returns_exactly() -> None:
    model, trie = model_of(), Trie.build(catalogue(), CONFIG.codebooks)
    context = context_of(CONFIG, 6)
    for b, result in enumerate(Decoder(model, trie).decode(context, [(4, 8, 16)] * 6)):
        log_p_1n, ecpm_1nK = score_all(model, part(context, slice(b, b + 1)), result.sids_nT)
        assert all(tuple(sid) in trie for sid in result.sids_nT.tolist())
        assert torch.allclose(result.log_probability_n, log_p_1n[0], atol=1e-4)
        assert torch.allclose(result.ecpm_distribution_nK, ecpm_1nK[0], atol=1e-4)


def test_mixed_batch_equals_requests_apart() -> None:
    model, trie = model_of(), Trie.build(catalogue(), CONFIG.codebooks)
    context = context_of(CONFIG, 6)
    schedules = [(4, 8, 16), (16, 64, 128), (4, 8, 16), (1, 1, 1), (16, 64, 128), (32, 8, 100)]
    decoder = Decoder(model, trie)
    together = decoder.decode(context, schedules)
    for b, result in enumerate(together):
        (alone,) = decoder.decode(part(context, slice(b, b + 1)), [schedules[b]])
        assert result.widths == schedules[b]
        assert_same_answer(result, alone)


def test_order_follows_the_ecpm_step() -> None:
    model, trie = model_of(), Trie.build(catalogue(), CONFIG.codebooks)
    context, means = context_of(CONFIG, 3), torch.tensor([0.1, 0.3, 1.0, 3.0, 9.0, 30.0])
    keys: dict[OrderBy, Callable[[DecodeResult], torch.Tensor]] = {
        "log_probability": lambda r: r.log_probability_n,
        "expected_ecpm": lambda r: r.expected_ecpm_n,
        "expected_value": lambda r: r.log_probability_n.exp() * r.expected_ecpm_n,
    }
    found: dict[str, list[set[tuple[int, ...]]]] = {}
    for order_by, key in keys.items():
        for result in Decoder(model, trie, means, order_by).decode(context, [(8, 16, 32)] * 3):
            assert (key(result).diff() <= 1e-7).all()
            assert torch.allclose(result.expected_ecpm_n, result.ecpm_distribution_nK @ means, atol=1e-5)
            found.setdefault(order_by, []).append({tuple(sid) for sid in result.sids_nT.tolist()})
    assert found["log_probability"] == found["expected_ecpm"] == found["expected_value"]


def test_without_the_ecpm_step_the_same_ads_come_by_log_probability() -> None:
    model, trie, context = model_of(), Trie.build(catalogue(), CONFIG.codebooks), context_of(CONFIG, 2)
    whole = Decoder(model, trie, order_by="log_probability").decode(context, [(4, 8, 16)] * 2)
    short = Decoder(model, trie, order_by="log_probability", ecpm_step=False).decode(context, [(4, 8, 16)] * 2)
    for one, other in zip(whole, short, strict=True):
        assert torch.equal(one.sids_nT, other.sids_nT)
        assert torch.equal(one.log_probability_n, other.log_probability_n)
        assert other.ecpm_distribution_nK.shape == (16, 0) and bool(other.expected_ecpm_n.isnan().all())
    with pytest.raises(UserError, match="eCPM step"):
        Decoder(model, trie, ecpm_step=False)


def test_count_returns_the_head_of_the_list() -> None:
    decoder = Decoder(model_of(), Trie.build(catalogue(), CONFIG.codebooks))
    context = context_of(CONFIG, 3)
    whole = decoder.decode(context, [(8, 16, 32)] * 3)
    for few, all_ in zip(decoder.decode(context, [(8, 16, 32)] * 3, count=[5, None, 0]), whole, strict=True):
        assert torch.equal(few.sids_nT, all_.sids_nT[: few.size])
    assert [r.size for r in decoder.decode(context, [(8, 16, 32)] * 3, count=[5, None, 0])] == [5, 32, 0]


def test_shared_attention_equals_replicated_attention() -> None:
    """W beams on the query axis of one context = W requests of one beam that each hold a copy of it."""
    from adbeam.decoding.engines.lazyar import LazyAREngine
    from adbeam.decoding.layout import Layout

    engine, context, W = LazyAREngine(model_of()), context_of(CONFIG, 2), 5
    static, code, feature, mask = (
        x.repeat_interleave(W, 0) for x in (context.static_BF, context.code_BST, context.feature_BSC, context.mask_BS)
    )
    replicated = ContextBatch(static, code, feature, mask)
    code_R = torch.randint(0, 32, (2 * W,))
    with torch.inference_mode():
        shared, copied = engine.begin(context), engine.begin(replicated)
        cpu = torch.device("cpu")
        engine.step(shared, 0, None, None, Layout.of([2], [1], cpu))
        engine.step(copied, 0, None, None, Layout.of([2 * W], [1], cpu))
        one = engine.step(shared, 1, code_R, torch.arange(2).repeat_interleave(W), Layout.of([2], [W], cpu))
        many = engine.step(copied, 1, code_R, torch.arange(2 * W), Layout.of([2 * W], [1], cpu))
    assert torch.allclose(one, many, atol=1e-5)


def test_impossible_requests_are_named() -> None:
    decoder = Decoder(model_of(), Trie.build(catalogue(), CONFIG.codebooks))
    context = context_of(CONFIG, 1)
    for widths in [(0, 8, 8), (8, 8), (8, 8, 8, 8)]:
        with pytest.raises(UserError, match="schedule"):
            decoder.decode(context, [widths])
    long = context_of(CONFIG.model_copy(update={"short_length": 9}), 1)
    with pytest.raises(UserError, match="context"):
        decoder.decode(long, [(8, 8, 8)])
    with pytest.raises(UserError, match="ecpm_means"):
        Decoder(model_of(), decoder.trie, [1.0, 2.0])
    with pytest.raises(UserError, match="codebooks"):
        Decoder(model_of(), Trie.build(catalogue() % 8, (8, 8, 8)))


def test_weights_that_are_no_numbers_never_give_an_ad() -> None:
    model = model_of()
    with torch.no_grad():
        model.get_parameter("codes.1.weight")[3] = float("nan")
    decoder = Decoder(model, Trie.build(catalogue(), CONFIG.codebooks))
    with pytest.raises(UserError, match="not finite"):
        decoder.decode(context_of(CONFIG, 1), [(8, 8, 8)])


def test_nothing_left_is_an_empty_list() -> None:
    decoder = Decoder(model_of(), Trie.build(catalogue(50), CONFIG.codebooks))
    context = context_of(CONFIG, 3)
    nothing = ItemFilter(allow=np.zeros(50, bool))
    denied = ItemFilter(deny=np.arange(50))
    results = decoder.decode(context, [(8, 8, 8)] * 3, filters=[nothing, None, denied])
    assert [result.size for result in results] == [0, 8, 0]


def test_masks_of_any_density_leave_what_they_allow() -> None:
    """All in one batch, some with a list on top."""
    sids_NT, generator = catalogue(), np.random.default_rng(1)
    masks = [generator.random(len(sids_NT)) >= blocked for blocked in (0.01, 0.99, 0.5, 0.3, 0.98)]
    denied = np.flatnonzero(masks[2])[::3]
    decoder = Decoder(model_of(), Trie.build(sids_NT, CONFIG.codebooks))
    filters = [*(ItemFilter(allow=mask) for mask in masks), None, ItemFilter(deny=denied)]
    filters += [ItemFilter(allow=mask, deny=denied) for mask in masks]
    every = np.ones_like(masks[0])
    remaining = [mask.copy() for mask in (*masks, every, every, *masks)]
    for open_N in remaining[len(masks) + 1 :]:
        open_N[denied] = False
    B = len(filters)
    wide = decoder.decode(context_of(CONFIG, B), [WIDE] * B, filters)
    mixed = [(4, 8, 16) if b % 2 else (3, 9, 12) for b in range(B)]
    narrow = decoder.decode(context_of(CONFIG, B), mixed, filters)
    for few, all_, open_N in zip(narrow, wide, remaining, strict=True):
        wanted = {tuple(sid) for sid in sids_NT[open_N].tolist()}
        assert {tuple(sid) for sid in all_.sids_nT.tolist()} == wanted and all_.size == len(wanted)
        assert {tuple(sid) for sid in few.sids_nT.tolist()} <= wanted and few.size >= min(4, len(wanted))
