"""The search engine with GPR: the same scores as its full forward pass, under masks and for any beams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.decoding_samples import CONFIG, assert_same_answer, catalogue, context_of, part

from adbeam.decoding import Decoder, ItemFilter, Trie, score_all
from adbeam.decoding.heads import shares
from adbeam.features.batch import TrainBatch
from adbeam.model import build_model
from adbeam.model.config import GprConfig, ModelConfig
from adbeam.model.lazyar import LazyAR

MIXTURE = (0.4, 0.3, 0.2, 0.1)
SHAPES: dict[str, dict[str, Any]] = {
    "gpr": {"decoder": "gpr", "lazy_layers": 0},
    "lazy gpr": {"decoder": "gpr"},
    "gpr without thinking": {"decoder": "gpr", "gpr": GprConfig(thinking_tokens=0)},
    "lazyar on hsd": {"context": "hsd"},
    "gpr of four heads": {"decoder": "gpr", "gpr": GprConfig(head_weights=MIXTURE)},
    "gpr with votes": {"decoder": "gpr", "history_prior": True},
}


def model_of(shape: str) -> LazyAR:
    torch.manual_seed(0)
    model = build_model(ModelConfig.model_validate({**CONFIG.model_dump(), **SHAPES[shape]})).eval()
    assert isinstance(model, LazyAR)
    return model


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "gpr of four heads"])
def test_scores_are_those_of_the_full_forward_pass(shape: str) -> None:
    model, trie = model_of(shape), Trie.build(catalogue(), CONFIG.codebooks)
    context = context_of(CONFIG, 5)
    for b, result in enumerate(Decoder(model, trie).decode(context, [(4, 8, 16)] * 5)):
        assert result.size == 16
        targets = result.sids_nT[None, None]
        n = result.size
        batch = TrainBatch(
            part(context, slice(b, b + 1)), torch.tensor([[CONFIG.context_length]]), targets,
            torch.zeros(1, 1, n, dtype=torch.int64), torch.ones(1, 1, n),
        )  # fmt: skip
        with torch.no_grad():
            log_p_n = -model.train_losses(batch)["sid"][0, 0]
        torch.testing.assert_close(result.log_probability_n, log_p_n, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", ["gpr", "gpr of four heads"])
def test_requests_together_and_on_threads_are_requests_apart(shape: str) -> None:
    model, trie, context = model_of(shape), Trie.build(catalogue(), CONFIG.codebooks), context_of(CONFIG, 4)
    schedules = [(4, 8, 16), (16, 64, 128), (4, 8, 16), (1, 1, 1)]
    shared = Decoder(model, trie, threads=2).decode(context, schedules)
    for b, result in enumerate(shared):
        (alone,) = Decoder(model, trie).decode(part(context, slice(b, b + 1)), [schedules[b]])
        assert_same_answer(result, alone)


@pytest.mark.parametrize("shape", ["gpr", "gpr of four heads"])
def test_no_denied_ad_is_answered_and_the_catalogue_is_live(shape: str) -> None:
    model, sids = model_of(shape), catalogue(300)
    decoder = Decoder(model, Trie.build(sids, CONFIG.codebooks))
    allow = np.zeros(300, dtype=bool)
    allow[::7] = True
    (result,) = decoder.decode(context_of(CONFIG, 1), [(8, 16, 32)], [ItemFilter(allow=allow)])
    allowed = {tuple(sid) for sid in sids[allow].tolist()}
    assert result.size == 32 and {tuple(sid) for sid in result.sids_nT.tolist()} <= allowed
    decoder.swap(Trie.build([(2, 2, 2)], CONFIG.codebooks))
    assert decoder.decode(context_of(CONFIG, 1), [(8, 16, 32)])[0].sids_nT.tolist() == [[2, 2, 2]]


def test_heads_are_mixed_as_over_all_semantic_ids() -> None:
    model, context = model_of("gpr of four heads"), context_of(CONFIG, 3)
    trie = Trie.build(catalogue(200), CONFIG.codebooks)
    sids_nT = torch.from_numpy(trie.sids())
    wide = (1000, 3000, 4000)
    means = torch.tensor([0.1, 0.3, 1.0, 3.0, 9.0, 30.0])
    for b, result in enumerate(Decoder(model, trie, means).decode(context, [wide] * 3)):
        log_p_hn, ecpm_hn = [], []
        for head, weight in enumerate(MIXTURE):
            row = replace(part(context, slice(b, b + 1)), head_B=torch.tensor([head]))
            log_p_1n, ecpm_1nK = score_all(model, row, sids_nT)
            log_p_hn.append(log_p_1n[0] + torch.tensor(weight).log())
            ecpm_hn.append(ecpm_1nK[0] @ means)
        log_p_n = torch.stack(log_p_hn).logsumexp(0)
        ecpm_n = (torch.stack(log_p_hn).softmax(0) * torch.stack(ecpm_hn)).sum(0)
        place = {tuple(sid): n for n, sid in enumerate(sids_nT.tolist())}
        found = [place[tuple(sid)] for sid in result.sids_nT.tolist()]
        assert sorted(found) == list(range(len(sids_nT))) and result.widths == wide
        torch.testing.assert_close(result.log_probability_n, log_p_n[found], atol=1e-4, rtol=0)
        torch.testing.assert_close(result.expected_ecpm_n, ecpm_n[found], atol=1e-3, rtol=1e-4)
        value_n = log_p_n.exp() * ecpm_n
        assert bool((value_n[found].diff() <= 1e-6).all())


@pytest.mark.parametrize(("widths", "count"), [((4, 8, 16), 10), ((64, 128, 128), 20), ((1, 1, 1), None)])
def test_heads_share_the_rows_of_a_schedule(widths: tuple[int, int, int], count: int | None) -> None:
    model = model_of("gpr of four heads")
    decoder = Decoder(model, Trie.build(catalogue(), CONFIG.codebooks))
    (result,) = decoder.decode(context_of(CONFIG, 1), [widths], count=count)
    assert count is None or result.size == count
    assert len({tuple(sid) for sid in result.sids_nT.tolist()}) == result.size
    needed = widths[-1] if count is None else count
    asked = shares((widths, needed), MIXTURE)
    for level in range(2):
        assert sum(head[0][level] for head in asked) <= widths[level] + len(MIXTURE) - 1
    assert asked[0][1] >= needed and asked[0][0][-1] >= needed
