"""The history prior: its definition, its place in training, and the search that follows tokens instead of pairs."""

from __future__ import annotations

import numpy as np
import torch

from adbeam.decoding import Decoder, Trie, brute_force
from adbeam.model.config import ModelConfig
from adbeam.model.features import History, build_context, collate
from adbeam.model.history_prior import prior_logits
from adbeam.model.lazyar import LazyAR
from adbeam.model.spec import FeatureSpec

CONFIG = ModelConfig(
    width=16, layers=4, lazy_layers=2, heads=2, codebooks=(8, 6, 5), short_length=6, long_length=4, history_prior=True,
    path_codes=True, item_buckets=64, prefix_buckets=64, user_buckets=8, ecpm_buckets=4,
)  # fmt: skip
DAY_MS = 86_400_000


def contexts(requests: int, seed: int = 0):
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(requests):
        H = int(draw.integers(0, 12))
        code = np.stack([draw.integers(0, size, H) for size in CONFIG.codebooks], axis=1)
        history = History(
            code, np.arange(H) * DAY_MS, np.full(H, 3), np.zeros(H, dtype=int), draw.random(H).astype(np.float32)
        )
        rows.append(build_context(history, 30 * DAY_MS, "home", None, FeatureSpec.of(CONFIG)))
    return collate(rows)


def test_votes_are_those_of_tokens_with_the_prefix():
    code = torch.tensor([[[1, 2], [1, 3], [0, 2], [1, 2]]])
    weight = torch.tensor([[[1.0, 2.0], [1.0, 4.0], [1.0, 8.0], [0.0, 16.0]]])
    first = prior_logits(code, weight, 0, torch.zeros(1, 1, 0, dtype=torch.long), 3)
    assert torch.allclose(first[0, 0], torch.log1p(torch.tensor([1.0, 2.0, 0.0])))
    second = prior_logits(code, weight, 1, torch.tensor([[[1], [0]]]), 4)
    assert torch.allclose(second[0], torch.log1p(torch.tensor([[0, 0, 18.0, 4.0], [0, 0, 8.0, 0]])))


def test_a_prefix_of_training_sees_only_its_tokens():
    code = torch.tensor([[[1], [2]]])
    seen = torch.tensor([[[True, False]]])
    logits = prior_logits(code, torch.ones(1, 2, 1), 0, torch.zeros(1, 1, 0, dtype=torch.long), 3, seen)
    assert torch.allclose(logits[0, 0], torch.log1p(torch.tensor([0.0, 1.0, 0.0])))


def test_search_with_a_prior_equals_the_exhaustive_scorer():
    torch.manual_seed(0)
    model = LazyAR(CONFIG).eval()
    draw = np.random.default_rng(1)
    sids = np.unique(np.stack([draw.integers(0, size, 150) for size in CONFIG.codebooks], axis=1), axis=0)
    context = contexts(7)
    decoder = Decoder(model, Trie.build(sids, CONFIG.codebooks), order_by="log_probability")
    results = decoder.decode(context, [(8, 48, 240)] * 7)
    value, best = brute_force(model, context, torch.from_numpy(sids))
    for b, result in enumerate(results):
        assert torch.allclose(result.log_probability_n, value[b], atol=1e-4)
        assert torch.equal(result.sids_nT[:20], best[b, :20].long())


def test_history_raises_what_it_holds():
    torch.manual_seed(0)
    model = LazyAR(CONFIG).eval()
    context = contexts(1, seed=3)
    state = model.encode(context)
    logits = model.prior(0, state, torch.zeros(1, 1, 0, dtype=torch.long))
    present = context.code_BST[0, :, 0][context.code_BST[0, :, 0] >= 0].unique()
    absent = [code for code in range(CONFIG.codebooks[0]) if code not in present.tolist()]
    assert (logits[0, 0, present] > 0).all() and (logits[0, 0, absent] == 0).all()
