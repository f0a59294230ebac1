"""Mask and search under it, beside the same search without rules.

Shapes: B requests, N ads, T levels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from adbeam.decoding import Decoder, DecodeResult, ItemFilter, Trie
from adbeam.features.batch import ContextBatch
from adbeam.targeting.live import LiveTargeting
from adbeam.targeting.rules import stored_rules
from adbeam.targeting.told import Told
from benchmarks.decode.setup import FULL, full_context, interleaved, model_of, random_sids, small
from benchmarks.told.catalogue import FEATURES, request, rule_texts


def mask_figures(ads: int, repeats: int) -> dict[str, float | int | None]:
    """Costs, sizes, and answers against the rules themselves."""
    texts = rule_texts(ads)
    started = time.perf_counter()
    targeting = LiveTargeting(texts, FEATURES, ads)
    figures: dict[str, float | int | None] = {"mask_compile_seconds": time.perf_counter() - started}
    figures["mask_bytes_per_ad"] = targeting.nbytes / ads
    config = small()
    sids_NT = random_sids(ads, config.codebooks)
    decoder = Decoder(model_of(config), Trie.build(sids_NT, config.codebooks))
    random, searched = np.random.default_rng(1), Searched(texts.to_pylist(), sids_NT)

    def under_rules(context: ContextBatch, batch: int) -> None:
        told = [request(random) for _ in range(batch)]
        filters = [ItemFilter(targeting.allow(each, ads)) for each in told]
        searched.kept.append((told, filters, decoder.decode(context, [FULL] * batch, filters)))

    def free(context: ContextBatch, batch: int) -> None:
        decoder.decode(context, [FULL] * batch)

    for batch in (1, 8):
        context = full_context(config, batch)
        jobs = {name: partial(job, context, batch) for name, job in (("free", free), ("rules", under_rules))}
        taken = interleaved(jobs, repeats)
        figures[f"mask_search_cost_b{batch}"] = taken["rules"] / taken["free"] - 1.0
        figures[f"free_ms_b{batch}"] = 1000 * taken["free"]
        searched.judge()
    figures["allowed_share"] = searched.allowed / max(searched.asked * ads, 1)
    counts = {"answers": searched.asked, "illegal_answers": searched.illegal, "short_answers": searched.short}
    return figures | counts


class Searched:
    """Answers, judged by the rules one by one once the clock stands."""

    def __init__(self, texts: Sequence[str | None], sids_NT: NDArray[np.int32]) -> None:
        self._texts = texts
        keys_N = _keys(sids_NT)
        self._order_N = np.argsort(keys_N)
        self._sorted_N = keys_N[self._order_N]
        self.kept: list[tuple[list[Told], list[ItemFilter], list[DecodeResult]]] = []
        self.asked = self.illegal = self.short = self.allowed = 0

    def judge(self) -> None:
        """Count what was kept, and forget it."""
        for told, filters, results in self.kept:
            for each, item_filter, result in zip(told, filters, results, strict=True):
                assert item_filter.allow is not None
                may_show = int(item_filter.allow.sum())
                self.asked += 1
                self.allowed += may_show
                self.illegal += sum(not self._is_legal(key, each) for key in _keys(result.sids_nT.numpy()))
                self.short += result.size < min(FULL[-1], may_show)
        self.kept.clear()

    def _is_legal(self, key: int, told: Told) -> bool:
        """Whether an ad of the semantic ID is for the request."""
        first, last = np.searchsorted(self._sorted_N, [key, key + 1])
        texts = [self._texts[row] for row in self._order_N[first:last]]
        return any(text is None or stored_rules(text).hold(told) for text in texts)


def _keys(sids_NT: NDArray[np.int32]) -> NDArray[np.int64]:
    """int64 [N], semantic IDs as one number each; a code has less than 20 bits."""
    keys_N = np.zeros(len(sids_NT), np.int64)
    for code_N in sids_NT.T:
        keys_N = keys_N << 20 | code_N
    return keys_N
