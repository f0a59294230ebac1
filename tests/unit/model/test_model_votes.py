"""Votes of history and of trends: their definition, and the search that follows tokens instead of pairs."""

from __future__ import annotations

import numpy as np
import torch

from adbeam.decoding import Decoder, Trie, brute_force
from adbeam.features.buckets import encode_trending
from adbeam.features.contexts import Moment, Trending, build_contexts
from adbeam.features.history import History
from adbeam.features.spec import SHARE, FeatureSpec
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR
from adbeam.model.priors.trend import match_bucket
from adbeam.model.priors.votes import Votes, vote_logits

CONFIG = ModelConfig(
    width=16, layers=4, lazy_layers=2, heads=2, codebooks=(8, 6, 5), short_length=6, long_length=4, history_prior=True,
    trending_length=9, path_codes=True, item_buckets=64, prefix_buckets=64, user_buckets=8, ecpm_buckets=4,
)  # fmt: skip
SPEC = FeatureSpec.of(CONFIG)
DAY_MS = 86_400_000
NOW = Moment(30 * DAY_MS, "home", None)


def contexts(requests: int, seed: int = 0):
    draw = np.random.default_rng(seed)
    histories, trends = [], []
    for _ in range(requests):
        H = int(draw.integers(0, 12))
        code = np.stack([draw.integers(0, size, H) for size in CONFIG.codebooks], axis=1)
        history = History(
            code, np.arange(H) * DAY_MS, np.full(H, 3), np.zeros(H, dtype=int), draw.random(H).astype(np.float32)
        )
        histories.append(history)
        trends.append(trending(draw))
    moments = [Moment(NOW.now_ms + number, NOW.scene, None) for number in range(requests)]
    return build_contexts(histories, moments, SPEC, EachItsOwn(trends)).batch()


class EachItsOwn:
    """The first trends at NOW, the second ones a millisecond later, and so on."""

    def __init__(self, trends: list[Trending]) -> None:
        self._trends = trends

    def at(self, now_ms: int) -> Trending:
        return self._trends[now_ms - NOW.now_ms]


def trending(draw: np.random.Generator) -> Trending:
    ads = int(draw.integers(0, 12))
    code = np.stack([draw.integers(0, size, ads) for size in CONFIG.codebooks], axis=1)
    return encode_trending(code, draw.random((ads, 3)) / 10, SPEC)


def history_votes(code, weight):
    return Votes(torch.tensor(code), torch.tensor(weight), of_history=True)


def test_votes_are_those_of_tokens_with_the_prefix():
    code = [[[1, 2], [1, 3], [0, 2], [1, 2]]]
    votes = history_votes(code, [[[1.0, 2.0], [1.0, 4.0], [1.0, 8.0], [0.0, 16.0]]])
    first = vote_logits(votes, 0, torch.zeros(1, 1, 0, dtype=torch.long), 3)
    assert torch.allclose(first[0, 0], torch.log1p(torch.tensor([1.0, 2.0, 0.0])))
    second = vote_logits(votes, 1, torch.tensor([[[1], [0]]]), 4)
    assert torch.allclose(second[0], torch.log1p(torch.tensor([[0, 0, 18.0, 4.0], [0, 0, 8.0, 0]])))


def test_a_prefix_of_training_sees_only_its_tokens():
    votes = history_votes([[[1], [2]]], [[[1.0], [1.0]]])
    seen = torch.tensor([[[True, False]]])
    logits = vote_logits(votes, 0, torch.zeros(1, 1, 0, dtype=torch.long), 3, seen)
    assert torch.allclose(logits[0, 0], torch.log1p(torch.tensor([0.0, 1.0, 0.0])))


def test_search_with_priors_equals_the_exhaustive_scorer():
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


def raised_by(kind: str, context) -> torch.Tensor:
    torch.manual_seed(0)
    state = LazyAR(CONFIG).eval().encode(context)
    votes = {"history": state.votes[0], "trend": state.votes[1]}[kind]
    return vote_logits(votes, 0, torch.zeros(1, 1, 0, dtype=torch.long), CONFIG.codebooks[0])[0, 0]


def test_history_raises_what_it_holds():
    context = contexts(1, seed=3)
    logits = raised_by("history", context)
    present = context.code_BST[0, :, 0][context.code_BST[0, :, 0] >= 0].unique()
    absent = [code for code in range(CONFIG.codebooks[0]) if code not in present.tolist()]
    assert (logits[present] > 0).all() and (logits[absent] == 0).all()


def test_trends_raise_what_converts_and_the_model_starts_with_the_larger_share_first():
    code = np.array([[5, 0, 0], [2, 1, 1], [7, 3, 2]])
    share = np.array([[0.2, 0.2, 0.2], [0.02, 0.02, 0.02], [0.002, 0.002, 0.002]])
    contexts = build_contexts([History.empty(3)], [NOW], SPEC, EachItsOwn([encode_trending(code, share, SPEC)]))
    logits = raised_by("trend", contexts.batch())
    assert logits[5] > logits[2] > logits[7] > 0
    assert (logits[[0, 1, 3, 4, 6]] == 0).all()


def test_no_more_trending_ads_than_the_model_takes():
    code, feature = encode_trending(np.ones((20, 3), dtype=np.int32), np.full((20, 3), 1.0), SPEC)
    assert code.shape == (9, 3) and (feature == SHARE - 1).all()


def test_match_buckets_are_exact_up_to_four():
    assert match_bucket(torch.tensor([0, 1, 2, 3, 4, 5, 7, 8, 16, 500])).tolist() == [0, 1, 2, 3, 4, 4, 4, 5, 6, 7]
