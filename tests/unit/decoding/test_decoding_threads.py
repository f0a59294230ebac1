"""Threads that share the requests of a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.decoding_samples import CONFIG, assert_same_answer, catalogue, context_of, model_of

from adbeam.decoding import Decoder, ItemFilter, Trie
from adbeam.decoding.decoder import _parts
from adbeam.errors import UserError
from adbeam.model.mtp import MtpDecoder

SCHEDULES = [(4, 8, 16), (16, 64, 128), (4, 8, 16), (1, 1, 1), (16, 64, 128), (32, 8, 100), (4, 8, 16)]


def updated(sids_NT: np.ndarray) -> Trie:
    """A catalogue after 200 inserts, moves and removals."""
    trie, generator = Trie.build(sids_NT, CONFIG.codebooks), np.random.default_rng(5)
    for item in range(len(sids_NT), len(sids_NT) + 200):
        trie.insert(item, generator.integers(0, CONFIG.codebooks).tolist())
        trie.remove(item - len(sids_NT))
    return trie


def filters(items: int) -> list[ItemFilter | None]:
    """Lists and masks that leave much and little."""
    generator = np.random.default_rng(1)
    masks = [generator.random(items) >= blocked for blocked in (0.01, 0.5, 0.99)]
    lists = [generator.choice(items, 300, replace=False) for _ in range(2)]
    return [None, *(ItemFilter(allow=mask) for mask in masks), *(ItemFilter(deny=deny) for deny in lists), None]


@pytest.mark.parametrize("threads", [2, 3, 9])
def test_threads_change_no_answer(threads: int) -> None:
    model, sids_NT = model_of(), catalogue()
    alone = Decoder(model, updated(sids_NT))
    shared = Decoder(model, updated(sids_NT), threads=threads)
    given, B = filters(len(sids_NT) + 200), len(SCHEDULES)
    for seed in range(5):
        context = context_of(CONFIG, B, seed)
        wanted = (context, SCHEDULES, given, [None, 5, None, None, 0, None, 3])
        for one, other in zip(alone.decode(*wanted), shared.decode(*wanted), strict=True):
            assert_same_answer(one, other)


def test_a_batch_smaller_than_the_threads_is_decoded_too() -> None:
    decoder = Decoder(model_of(), Trie.build(catalogue(), CONFIG.codebooks), threads=2)
    (result,) = decoder.decode(context_of(CONFIG, 1), [(4, 8, 16)])
    assert result.size == 16


def test_all_threads_see_updates_and_another_trie() -> None:
    decoder = Decoder(model_of(), Trie.build(catalogue(), CONFIG.codebooks), threads=2)
    context, every = context_of(CONFIG, 4), [(32, 768, 2000)] * 4
    live = {result.size for result in decoder.decode(context, every)}
    decoder.trie.insert(5000, next(sid for sid in np.ndindex(*CONFIG.codebooks) if sid not in decoder.trie))
    assert {result.size for result in decoder.decode(context, every)} == {live.pop() + 1}
    decoder.swap(Trie.build([(2, 2, 2)], CONFIG.codebooks))
    assert [result.sids_nT.tolist() for result in decoder.decode(context, every)] == [[[2, 2, 2]]] * 4


def test_an_error_in_a_thread_is_the_error_of_the_decode() -> None:
    model = model_of()
    model.get_parameter("codes.1.weight").data[3] = float("nan")
    decoder = Decoder(model, Trie.build(catalogue(), CONFIG.codebooks), threads=2)
    with pytest.raises(UserError, match="not finite"):
        decoder.decode(context_of(CONFIG, 2), [(8, 8, 8)] * 2)


def test_other_models_share_a_batch_as_well() -> None:
    config = CONFIG.model_copy(update={"decoder": "mtp"})
    model, trie, context = MtpDecoder(config).eval(), Trie.build(catalogue(), CONFIG.codebooks), context_of(config, 4)
    schedules = [(4, 8, 16)] * 4
    alone, shared = (Decoder(model, trie, threads=threads).decode(context, schedules) for threads in (1, 2))
    for one, other in zip(alone, shared, strict=True):
        assert_same_answer(one, other)


@given(st.lists(st.integers(1, 1000), max_size=40), st.integers(1, 9))
def test_parts_hold_every_request_once_and_share_the_cost(costs: list[int], most: int) -> None:
    parts = _parts(costs, most)
    assert [place for part in parts for place in range(len(costs))[part]] == list(range(len(costs)))
    assert len(parts) <= most and (not costs or all(costs[part] for part in parts))
    assert max(sum(costs[part]) for part in parts) <= sum(costs) / most + (max(costs) if costs else 0)


def test_an_impossible_number_of_threads_is_refused() -> None:
    with pytest.raises(UserError, match="threads"):
        Decoder(model_of(), Trie.build(catalogue(), CONFIG.codebooks), threads=0)
