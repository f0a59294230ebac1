"""The trie and its filters against sets of tuples, over random catalogues, updates and filters."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.decoding_samples import context_of

from adbeam.decoding import Decoder, ItemFilter, Trie
from adbeam.decoding.topk import top_k
from adbeam.decoding.trie.tensors import TrieTensors
from adbeam.errors import UserError
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR

CODEBOOKS = (6, 5, 4)
MODEL = ModelConfig(
    width=16, layers=2, lazy_layers=1, heads=2, context_kv_heads=1, context_kv_groups=1, codebooks=CODEBOOKS,
    ecpm_buckets=3, short_length=3, long_length=2, item_buckets=16, prefix_buckets=16, user_buckets=16, dropout=0.0,
)  # fmt: skip

Sid = tuple[int, ...]
sids = st.tuples(*(st.integers(0, size - 1) for size in CODEBOOKS))
catalogues = st.lists(sids, min_size=1, max_size=60)
updates = st.lists(st.tuples(st.integers(0, 70), st.one_of(st.none(), sids)), max_size=40)


def applied(trie: Trie, held: dict[int, Sid], changes: list[tuple[int, Sid | None]]) -> None:
    """Make the same changes to the trie and to a plain dictionary."""
    for item, sid in changes:
        if sid is None:
            trie.remove(item)
            held.pop(item, None)
        else:
            trie.insert(item, sid)
            held[item] = sid


def live_set(trie: Trie) -> set[Sid]:
    return {tuple(sid) for sid in trie.sids().tolist()}


@given(catalogues, updates, updates)
@settings(max_examples=150, deadline=None)
def test_updates_keep_the_trie_equal_to_the_catalogue(start: list[Sid], first: list, second: list) -> None:
    trie, held = Trie.build(start, CODEBOOKS), dict(enumerate(start))
    copy = TrieTensors(trie, copied=True)
    for changes in (first, second):
        applied(trie, held, changes)
        assert live_set(trie) == set(held.values())
        assert trie.live_sids == len(set(held.values()))
        assert all(sid in trie for sid in held.values())
        trie.check()
        copy.refresh()
        view = TrieTensors(trie)
        for level in range(3):
            entry = torch.arange(trie.levels[level].used)
            assert torch.equal(copy.live(level, entry), view.live(level, entry))
            assert torch.equal(copy.codes(level, entry), view.codes(level, entry))
            if level < 2:
                assert all(map(torch.equal, copy.rows(level, entry), view.rows(level, entry)))
        assert torch.equal(copy.leaf_N, view.leaf_N)


@given(catalogues, updates, st.data())
@settings(max_examples=80, deadline=None)
def test_filters_reach_exactly_what_they_allow(start: list[Sid], changes: list, data: st.DataObject) -> None:
    """With widths that cover everything a filtered search returns the allowed live SIDs, no more and no less."""
    trie, held = Trie.build(start, CODEBOOKS), dict(enumerate(start))
    applied(trie, held, changes)
    rows = sorted(held) or [0]
    deny = data.draw(st.lists(st.integers(0, 75), max_size=30))
    masks = st.lists(st.booleans(), min_size=len(start), max_size=80)
    allow, other, few = np.array(data.draw(masks)), np.array(data.draw(masks)), np.zeros(80, bool)
    few[data.draw(st.lists(st.integers(0, 79), max_size=5))] = True
    allowed, others, fews = (set(np.flatnonzero(mask).tolist()) for mask in (allow, other, few))
    filters = [None, ItemFilter(deny=deny), ItemFilter(allow=allow), ItemFilter(allow=other, deny=rows[::2] + deny),
               ItemFilter(allow=few), ItemFilter(allow=few, deny=deny)]  # fmt: skip
    expected = [
        set(held.values()),
        {sid for item, sid in held.items() if item not in deny},
        {sid for item, sid in held.items() if item in allowed},
        {sid for item, sid in held.items() if item in others and item not in rows[::2] + deny},
        {sid for item, sid in held.items() if item in fews},
        {sid for item, sid in held.items() if item in fews and item not in deny},
    ]
    torch.manual_seed(0)
    decoder = Decoder(LazyAR(MODEL), trie)
    found = decoder.decode(context_of(MODEL, 6), [(6, 30, 120)] * 6, filters=filters)
    for result, wanted in zip(found, expected, strict=True):
        listed = [tuple(sid) for sid in result.sids_nT.tolist()]
        assert len(listed) == len(set(listed)) and set(listed) == wanted


@given(catalogues, st.tuples(*[st.integers(1, 9)] * 3), st.lists(st.integers(0, 60), max_size=20))
@settings(max_examples=60, deadline=None)
def test_any_width_fills_its_answer_while_ads_exist(start: list[Sid], widths: Sid, deny: list[int]) -> None:
    trie = Trie.build(start, CODEBOOKS)
    allow = np.random.default_rng(len(start)).random(len(start)) < 0.3
    filters = [None, ItemFilter(deny=deny), ItemFilter(allow=allow), ItemFilter(allow=allow, deny=deny)]
    torch.manual_seed(0)
    decoder = Decoder(LazyAR(MODEL), trie)
    results = decoder.decode(context_of(MODEL, 5), [widths] * 4 + [(3, 3, 3)], [*filters, None])
    few = decoder.decode(context_of(MODEL, 5), [widths] * 4 + [(3, 3, 3)], [*filters, None], count=2)
    allowed = [lambda _: True, lambda n: n not in deny, lambda n: allow[n], lambda n: allow[n] and n not in deny]
    for result, head, keeps in zip(results, few, allowed, strict=False):
        open_sids = {sid for item, sid in enumerate(start) if keeps(item)}
        listed = {tuple(sid) for sid in result.sids_nT.tolist()}
        assert listed <= open_sids and len(listed) == result.size == min(widths[2], len(open_sids))
        assert head.size == min(2, widths[2], len(open_sids))


@given(st.integers(1, 4), st.integers(1, 400), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_two_stage_top_k_equals_one_stage(rows: int, n: int, k: int, seed: int) -> None:
    score = torch.randn(rows, n, generator=torch.Generator().manual_seed(seed))
    score[score > 1.5] = float("-inf")
    value, place = top_k(score, min(k, n), chunk=4)
    assert torch.equal(value, torch.topk(score, min(k, n), dim=1).values)
    assert torch.equal(score.gather(1, place), value)


def test_an_insert_is_seen_by_the_next_search_and_a_removal_too() -> None:
    trie = Trie.build([(0, 0, 0), (1, 1, 1)], CODEBOOKS)
    torch.manual_seed(0)
    decoder, context = Decoder(LazyAR(MODEL), trie), context_of(MODEL, 1)

    def found() -> set[Sid]:
        (result,) = decoder.decode(context, [(6, 6, 6)])
        return {tuple(sid) for sid in result.sids_nT.tolist()}

    trie.insert(2, (5, 4, 3))
    trie.insert(3, (0, 0, 3))
    assert found() == {(0, 0, 0), (1, 1, 1), (5, 4, 3), (0, 0, 3)}
    trie.remove(0)
    trie.remove(2)
    assert found() == {(1, 1, 1), (0, 0, 3)}
    decoder.swap(Trie.build([(2, 2, 2)], CODEBOOKS))
    assert found() == {(2, 2, 2)}


def test_updates_from_other_threads_never_wait_for_a_search() -> None:
    trie = Trie.build([(0, 0, 0)], CODEBOOKS)

    def insert() -> None:
        for n in range(1, 50):
            trie.insert(n, (n % 6, 0, 0))

    with trie.searching():
        writer = threading.Thread(target=insert)
        writer.start()
        writer.join(timeout=5)
        assert not writer.is_alive()
        assert trie.levels[0].live.sum() == 1
    assert trie.live_sids == 6


def test_a_copy_that_missed_too_much_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adbeam.decoding.trie.trie.TOUCHED", 10)
    trie = Trie.build([(0, 0, 0), (1, 1, 1)], CODEBOOKS)
    copy = TrieTensors(trie, copied=True)
    for item in range(2, 30):
        trie.insert(item, (item % 6, item % 5, item % 4))
        trie.remove(item - 2)
        trie.apply_pending()
        if item % 11 == 0:
            copy.refresh()
    copy.refresh()
    assert len(trie.touched) <= 40 and torch.equal(copy.leaf_N, TrieTensors(trie).leaf_N)
    assert torch.equal(
        copy.live(2, torch.arange(trie.levels[2].used)),
        torch.from_numpy(trie.levels[2].live)[: trie.levels[2].used] > 0,
    )


def test_items_that_share_a_sid_keep_it_alive() -> None:
    trie = Trie.build([(1, 2, 3), (1, 2, 3), (1, 2, 0)], CODEBOOKS)
    trie.remove(0)
    assert (1, 2, 3) in trie
    trie.remove(1)
    assert (1, 2, 3) not in trie and (1, 2, 0) in trie


def test_an_empty_row_of_the_catalogue_names_the_prefix() -> None:
    trie = Trie.build([(1, 2, 3), (4, 0, 1)], CODEBOOKS)
    trie.levels[2].live[0] = 0
    with pytest.raises(UserError, match=r"\(1, 2\)"):
        Decoder(LazyAR(MODEL), trie)
    trie = Trie.build([(1, 2, 3), (4, 0, 1)], CODEBOOKS)
    decoder = Decoder(LazyAR(MODEL), trie)
    length = trie.levels[1].length
    assert length is not None
    length[0] = 0
    with pytest.raises(UserError, match=r"\(1, 2\)"):
        decoder.decode(context_of(MODEL, 1), [(6, 6, 6)])


def test_catalogues_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match="no live ad"):
        Trie.build(np.zeros((0, 3), int), CODEBOOKS)
    with pytest.raises(UserError, match="no live ad"):
        Trie.build([(0, 0, 0)], CODEBOOKS, live_N=[False])
    with pytest.raises(UserError, match="level 1"):
        Trie.build([(0, 5, 0)], CODEBOOKS)
    with pytest.raises(UserError, match="one code for each"):
        Trie.build([(0, 0)], CODEBOOKS)
    with pytest.raises(UserError, match="sid"):
        Trie.build([(0, 0, 0)], CODEBOOKS).insert(1, (0, 9, 0))


def test_a_million_ads_cost_at_most_16_bytes_each() -> None:
    generator = np.random.default_rng(0)
    trie = Trie.build(generator.integers(0, 1024, (1_000_000, 3), dtype=np.int32), (1024, 1024, 1024))
    assert trie.bytes / 1_000_000 <= 16


def test_one_level_is_enough() -> None:
    trie = Trie.build([(0,), (3,), (3,)], (6,))
    assert live_set(trie) == {(0,), (3,)}
    trie.insert(9, (5,))
    trie.remove(1)
    assert live_set(trie) == {(0,), (3,), (5,)} and trie.live_sids == 3
