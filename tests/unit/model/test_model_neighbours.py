"""Votes of neighbours: their definition, what prefixes see, a user's own pairs, and the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adbeam.decoding import Decoder, Trie, brute_force
from adbeam.features.batch import ContextBatch, TrainBatch
from adbeam.features.spec import FeatureSpec
from adbeam.features.tokens import SHORT
from adbeam.model.config import ModelConfig, NeighbourPriorConfig
from adbeam.model.lazyar import LazyAR
from adbeam.model.priors.neighbours import NeighbourPrior, Prefixes, sid_key
from adbeam.tokens.cooccurrence.directed import DirectedCounts, NeighbourRows, PairWeights
from adbeam.training.neighbour_table import padded

SETTINGS = NeighbourPriorConfig(neighbours=6, history_events=3, window_events=4, text_fields=())
CONFIG = ModelConfig(
    width=16, layers=4, lazy_layers=2, heads=2, codebooks=(4, 3, 5), short_length=8, long_length=0, order_only=True,
    item_buckets=64, prefix_buckets=64, user_buckets=1, ecpm_buckets=2, neighbour_prior=SETTINGS,
)  # fmt: skip
SPEC = FeatureSpec.of(CONFIG)
ITEMS = np.array([[a, b, c] for a in range(4) for b in range(3) for c in (0, 3)])


def walks(users: int, seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.permutation(len(ITEMS))[: int(draw.integers(3, 9))] for _ in range(users)]


def table_of(sequences: list[np.ndarray], events_N: np.ndarray | None = None) -> dict[str, torch.Tensor]:
    """The table of these users; `events_N` are the items' counts that scores are damped by, where they are others."""
    user_E = np.repeat(np.arange(len(sequences)), [len(one) for one in sequences])
    counts = DirectedCounts(user_E, np.concatenate(sequences), len(ITEMS), PairWeights.of(SETTINGS))
    if events_N is not None:
        counts._damped_N = np.maximum(events_N, 1).astype(np.float64)
    found = NeighbourRows(counts, None, SETTINGS.neighbours).rows(0, len(ITEMS))
    damping = counts.events_N if events_N is None else events_N
    arrays = {"key_I": sid_key(ITEMS, CONFIG.codebooks), **padded(found, ITEMS, damping, SETTINGS)}
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def prior_of(table: dict[str, torch.Tensor]) -> NeighbourPrior:
    prior = NeighbourPrior(CONFIG).eval()
    prior.fill(table)
    return prior


def prior_in(model: LazyAR) -> NeighbourPrior:
    (prior,) = (module for module in model.modules() if isinstance(module, NeighbourPrior))
    return prior


def contexts(sequences: list[np.ndarray]) -> ContextBatch:
    B = len(sequences)
    code, feature = np.full((B, 9, 3), -1), np.zeros((B, 9, len(SPEC.token_sizes)), np.int64)
    for user, items in enumerate(sequences):
        code[user, 1 : 1 + len(items)] = ITEMS[items]
        feature[user, 1 : 1 + len(items), :2] = SHORT, 3
    return ContextBatch.of(np.zeros((B, len(SPEC.static_sizes)), np.int64), code, feature)


def rows(sequences: list[np.ndarray]) -> TrainBatch:
    """What training on all prefixes reads: the last item of each user is a target only."""
    P = max(len(one) for one in sequences) - 1
    target, visible = np.zeros((len(sequences), P, 1, 3), np.int64), np.ones((len(sequences), P), np.int64)
    weight = np.zeros((len(sequences), P, 1), np.float32)
    for user, items in enumerate(sequences):
        n = len(items) - 1
        target[user, :n, 0], visible[user, :n], weight[user, :n] = ITEMS[items[1:]], 2 + np.arange(n), 1
    parts = [torch.from_numpy(part) for part in (visible, target, np.full(weight.shape, -1), weight)]
    return TrainBatch(contexts([one[:-1] for one in sequences]), *parts)


def test_an_events_neighbours_vote_by_score_and_age() -> None:
    table = table_of(walks(40))
    votes = prior_of(table)(contexts([np.array([5, 2, 7, 11])]))
    assert votes.code_BNT.shape == (1, 18, 3)
    for place, (item, age) in enumerate(((11, 0), (7, 1), (2, 2))):
        part = slice(6 * place, 6 * place + 6)
        torch.testing.assert_close(votes.code_BNT[0, part], table["code_IKT"][item].long())
        expected = 100 * table["score_IK"][item] * 0.6**age
        torch.testing.assert_close(votes.weight_BNT[0, part], expected[:, None].expand(-1, 3))


def test_an_unknown_or_missing_event_votes_for_nothing() -> None:
    prior = prior_of({name: value[1:] for name, value in table_of(walks(40)).items()})
    votes = prior(contexts([np.array([0]), np.array([], int), np.array([1])]))
    assert not votes.weight_BNT[:2].any() and votes.weight_BNT[2].any()
    assert (
        prior_of({name: value[:0] for name, value in table_of(walks(9)).items()})(contexts(walks(2))).code_BNT.numel()
        == 0
    )


def test_a_prefix_hears_what_its_own_context_would_hear() -> None:
    sequences = walks(6, seed=1)
    batch, prior = rows(sequences), prior_of(table_of(walks(40)))
    votes = prior(batch.context, Prefixes.of(batch))
    P = batch.visible_BP.shape[1]
    for user, items in enumerate(sequences):
        for n in range(len(items) - 1):
            alone = prior(contexts([items[: n + 1]]))
            torch.testing.assert_close(votes.weight_BNT[user * P + n], alone.weight_BNT[0])
            heard = alone.weight_BNT[0, :, 0] > 0
            torch.testing.assert_close(votes.code_BNT[user * P + n, heard], alone.code_BNT[0, heard])


def test_a_user_does_not_hear_his_own_pairs_while_training() -> None:
    everyone = walks(30, seed=2)
    mine, others = everyone[:1], everyone[1:]
    events_N = np.bincount(np.concatenate(everyone), minlength=len(ITEMS))
    batch = rows(mine)
    whole, without = prior_of(table_of(everyone)), prior_of(table_of(others, events_N))
    whole.train()
    heard, expected = (prior(batch.context, Prefixes.of(batch)) for prior in (whole, without))
    # A table made without this user may keep other weak neighbours: those that both know are compared.
    both = []
    for event in range(3):
        one, other = (
            {tuple(codes): weight for codes, weight in zip(*parts, strict=True) if weight}
            for parts in (
                (votes.code_BNT[-1, part].tolist(), votes.weight_BNT[-1, part, 0].tolist())
                for votes in (heard, expected)
                for part in [slice(6 * event, 6 * event + 6)]
            )
        )
        both += [(one[codes], other[codes]) for codes in one.keys() & other.keys()]
    assert len(both) > 2
    np.testing.assert_allclose([one for one, _ in both], [other for _, other in both], rtol=1e-4)
    alone = prior_of(table_of(mine))
    assert alone(batch.context, Prefixes.of(batch)).weight_BNT.any()
    alone.train()
    assert not alone(batch.context, Prefixes.of(batch)).weight_BNT.any()


def model_of(**changes) -> LazyAR:
    torch.manual_seed(0)
    model = LazyAR(CONFIG.model_copy(update=changes)).eval()
    prior_in(model).fill(table_of(walks(60, seed=3)))
    return model


def test_the_search_counts_neighbours_as_the_model_does() -> None:
    model, trie = model_of(), Trie.build(ITEMS, CONFIG.codebooks)
    batch = contexts([*walks(3, seed=4), np.array([], int)])
    results = Decoder(model, trie, order_by="log_probability", ecpm_step=False).decode(batch, [(24, 24, 24)] * 4)
    for b, result in enumerate(results):
        one = batch.rows(torch.tensor([b]))
        log_p_1n, sid_1nT = brute_force(model, one, torch.from_numpy(ITEMS))
        torch.testing.assert_close(result.log_probability_n, log_p_1n[0], atol=1e-4, rtol=1e-4)
        assert result.sids_nT[0].tolist() == sid_1nT[0, 0].tolist()


def test_training_on_prefixes_equals_each_prefix_alone() -> None:
    model = model_of()
    sequences = walks(4, seed=5)
    batch = rows(sequences)
    sid = model.train_losses(batch, mtp=False, ecpm=False)["sid"]
    for user, items in enumerate(sequences):
        for n in range(len(items) - 1):
            target = torch.from_numpy(ITEMS[items[n + 1]])[None, None, None]
            one = TrainBatch(
                contexts([items[: n + 1]]), torch.tensor([[9]]), target, torch.full((1, 1, 1), -1), torch.ones(1, 1, 1)
            )
            torch.testing.assert_close(
                model.train_losses(one, mtp=False, ecpm=False)["sid"][0, 0], sid[user, n], atol=1e-4, rtol=1e-4
            )


def test_dropped_priors_leave_the_network_alone_in_training_only() -> None:
    model = model_of(prior_dropout=0.999999)
    batch = rows(walks(4, seed=5))
    assert any(votes.weight_BNT.any() for votes in model.encode(batch.context).votes)
    model.train()
    assert not any(votes.weight_BNT.any() for votes in model.encode(batch.context, Prefixes.of(batch)).votes)


def test_weights_bring_their_table_and_a_model_without_is_described_as_before() -> None:
    model, fresh = model_of(), LazyAR(CONFIG)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(prior_in(fresh).code_IKT, prior_in(model).code_IKT)
    plain = ModelConfig()
    assert "neighbour_prior" not in plain.model_dump() and "prior_dropout" not in plain.model_dump()
    with pytest.raises(ValueError):
        ModelConfig.model_validate({"neighbour_prior": {"neighbors": 3}})
