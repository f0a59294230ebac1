"""The search engine with GPR: the same scores as its full forward pass, under masks and for any beams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.support.decoding_samples import CONFIG, assert_same_answer, catalogue, context_of, part

from adbeam.decoding import Decoder, ItemFilter, Trie
from adbeam.features.batch import TrainBatch
from adbeam.model import build_model
from adbeam.model.config import GprConfig, ModelConfig
from adbeam.model.lazyar import LazyAR

SHAPES: dict[str, dict[str, Any]] = {
    "gpr": {"decoder": "gpr", "lazy_layers": 0},
    "lazy gpr": {"decoder": "gpr"},
    "gpr without thinking": {"decoder": "gpr", "gpr": GprConfig(thinking_tokens=0)},
    "lazyar on hsd": {"context": "hsd"},
    "gpr with votes": {"decoder": "gpr", "history_prior": True},
}


def model_of(shape: str) -> LazyAR:
    torch.manual_seed(0)
    model = build_model(ModelConfig.model_validate({**CONFIG.model_dump(), **SHAPES[shape]})).eval()
    assert isinstance(model, LazyAR)
    return model


@pytest.mark.parametrize("shape", SHAPES)
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


def test_requests_together_and_on_threads_are_requests_apart() -> None:
    model, trie, context = model_of("gpr"), Trie.build(catalogue(), CONFIG.codebooks), context_of(CONFIG, 4)
    schedules = [(4, 8, 16), (16, 64, 128), (4, 8, 16), (1, 1, 1)]
    shared = Decoder(model, trie, threads=2).decode(context, schedules)
    for b, result in enumerate(shared):
        (alone,) = Decoder(model, trie).decode(part(context, slice(b, b + 1)), [schedules[b]])
        assert_same_answer(result, alone)


def test_no_denied_ad_is_answered_and_the_catalogue_is_live() -> None:
    model, sids = model_of("gpr"), catalogue(300)
    decoder = Decoder(model, Trie.build(sids, CONFIG.codebooks))
    allow = np.zeros(300, dtype=bool)
    allow[::7] = True
    (result,) = decoder.decode(context_of(CONFIG, 1), [(8, 16, 32)], [ItemFilter(allow=allow)])
    allowed = {tuple(sid) for sid in sids[allow].tolist()}
    assert result.size == 32 and {tuple(sid) for sid in result.sids_nT.tolist()} <= allowed
    decoder.swap(Trie.build([(2, 2, 2)], CONFIG.codebooks))
    assert decoder.decode(context_of(CONFIG, 1), [(8, 16, 32)])[0].sids_nT.tolist() == [[2, 2, 2]]
