"""`--parts look`: what a trained LazyAR knows, beside SASRec and neighbours, before anything else is trained.

Five tables: nats a level by how often the target was trained on, over the whole codebook and over live children; recall
at 10, 64 and 200, also with the normaliser over live children in the search alone, and of the union with neighbours;
fusion with the neighbours' scores, its weight chosen on validation; recall of each method by stratum. With `--proxy`
both splits are asked, without it validation alone: the real test split is left to the final rows.

Shapes: U users, T SID levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adbeam.evaluation.baselines.counts import Scorer
from adbeam.features.spec import FeatureSpec
from adbeam.model.lazyar import LazyAR
from adbeam.training.data.prefixes import history_context
from benchmarks.beauty import counts
from benchmarks.beauty.data import Beauty, Split
from benchmarks.beauty.lazyar import HISTORY, JUDGED_TOGETHER, LazyARRow
from benchmarks.beauty.legal import LegalEngine, LiveChildren, path_nll
from benchmarks.beauty.sasrec import SASRecRow

MOST = 200
CUTS = (10, 64, 200)
WIDTHS = (200, 256, 256)
BUCKETS = ((0, 0), (1, 3), (4, 10), (11, 30), (31, 10**9))
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Of the logarithm of a neighbours' score in the fusion."""
FLOOR, MISSING_NATS = 1e-3, 1.0
"""An item without neighbours' score has the floor; one outside the beams lies this far below the last of them."""


@dataclass(frozen=True)
class Lists:
    """Ranked items of every user, and their scores."""

    items: list[list[int]]
    scores: list[list[float]]

    def hits(self, target_U: np.ndarray, k: int) -> np.ndarray:
        """bool [U]: whether the target is among the first k."""
        return np.array([target in items[:k] for items, target in zip(self.items, target_U.tolist(), strict=True)])


def look(
    data: Beauty, lazy: LazyARRow, rival: SASRecRow | None, scorer: Scorer, splits: Sequence[Split]
) -> dict[str, Any]:
    """All tables, by split; `rival` is left out where it is not trained."""
    model = lazy.fit.best_model()
    assert isinstance(model, LazyAR)
    live = LiveChildren(data.sids_NT, data.codebooks)
    found: dict[str, Any] = {}
    weights: dict[str, float] = {}
    for split in splits:
        histories, target_U = data.judged(split)
        lists = {
            "lazyar": _decoded(lazy, model, split),
            "lazyar_legal": _decoded(lazy, LegalEngine(model, live), split),
            "neighbours": Lists(*counts.ranked(scorer, data, histories, MOST, new_only=True)),
        }
        if rival is not None:
            lists["sasrec"] = Lists(*rival.ranked(rival.fit.best_model(), histories, MOST, new_only=True))
        recall = _recall(lists, target_U, weights)
        found[split] = {
            "nll": _nll(data, model, live, split),
            "recall": recall,
            "strata": _strata(data, lists, split),
        }
        print(split, found[split]["recall"], flush=True)
    return found


def _decoded(lazy: LazyARRow, model: LazyAR | LegalEngine, split: Split) -> Lists:
    """The first items of every user, those of his history left out; an item's score is log p of its SID in nats."""
    histories, _ = lazy.data.judged(split)
    items: list[list[int]] = [[] for _ in histories]
    scores: list[list[float]] = [[] for _ in histories]
    for user, result in lazy.decoded(model, histories, WIDTHS, new_only=True):
        seen = set(histories[user].tolist())
        for sid, log_p in zip(result.sids_nT.tolist(), result.log_probability_n.tolist(), strict=True):
            fresh = [item for item in lazy.ranking.expand([sid], seen) if len(items[user]) < MOST]
            items[user] += fresh
            scores[user] += [log_p] * len(fresh)
        del items[user][MOST:], scores[user][MOST:]
    return Lists(items, scores)


def _recall(lists: Mapping[str, Lists], target_U: np.ndarray, weights: dict[str, float]) -> dict[str, float]:
    """{"lazyar@10": ..., "union@64": ..., "lazyar_fused@10": ...}; `weights` are of the fusions, chosen where they
    are not there yet."""
    found = {f"{name}@{k}": float(one.hits(target_U, k).mean()) for name, one in lists.items() for k in CUTS}
    ours, theirs = lists["lazyar"], lists["neighbours"]
    for k in CUTS:
        found[f"union@{k}"] = float((ours.hits(target_U, k) | theirs.hits(target_U, k)).mean())
        shared = [len(set(a[:k]) & set(b[:k])) / k for a, b in zip(ours.items, theirs.items, strict=True)]
        found[f"shared@{k}"] = float(np.mean(shared))
    for name in ("lazyar", "lazyar_legal"):
        tried = (weights[name],) if name in weights else WEIGHTS
        by_weight = {one: float(fused(lists[name], theirs, one).hits(target_U, 10).mean()) for one in tried}
        weights[name] = max(by_weight, key=lambda one: by_weight[one])
        found |= {f"{name}_fused@10": by_weight[weights[name]], f"{name}_fusion_weight": weights[name]}
    return found


def fused(ours: Lists, theirs: Lists, weight: float) -> Lists:
    """log p + weight log(neighbours' score) over the union of both lists."""
    items: list[list[int]] = []
    scores: list[list[float]] = []
    for own, log_p, other, score in zip(ours.items, ours.scores, theirs.items, theirs.scores, strict=True):
        own_of, score_of = dict(zip(own, log_p, strict=True)), dict(zip(other, score, strict=True))
        least = min(log_p, default=0.0) - MISSING_NATS
        both = {
            item: own_of.get(item, least) + weight * float(np.log(max(score_of.get(item, 0.0), FLOOR)))
            for item in [*own, *(item for item in other if item not in own_of)]
        }
        best = sorted(both, key=lambda item: -both[item])[:MOST]
        items.append(best)
        scores.append([both[item] for item in best])
    return Lists(items, scores)


def _nll(data: Beauty, model: LazyAR, live: LiveChildren, split: Split) -> dict[str, dict[str, Any]]:
    """{"1-3 events": {"users": ..., "full": nats by level, "live": nats by level}, ..., "all": ...}."""
    histories, target_U = data.judged(split)
    parts = [path_nll(model, context, sid_BT, live) for context, sid_BT in _parts(data, model, histories, target_U)]
    full_UT, live_UT = (torch.cat(side).numpy() for side in zip(*parts, strict=True))
    count_U = data.popularity_N[target_U]
    chosen = {"all": np.ones(len(target_U), bool)}
    chosen |= {_bucket_name(low, high): (count_U >= low) & (count_U <= high) for low, high in BUCKETS}
    return {
        name: {"users": int(mine_U.sum()), "full": _means(full_UT[mine_U]), "live": _means(live_UT[mine_U])}
        for name, mine_U in chosen.items()
        if mine_U.any()
    }


def _parts(data: Beauty, model: LazyAR, histories: list[np.ndarray], target_U: np.ndarray) -> Iterator[Any]:
    spec = FeatureSpec.of(model.config)
    for start in range(0, len(histories), JUDGED_TOGETHER):
        part = histories[start : start + JUDGED_TOGETHER]
        context = history_context([data.sids_NT[history[-HISTORY:]] for history in part], spec)
        yield context, torch.from_numpy(data.sids_NT[target_U[start : start + len(part)]].astype(np.int64))


def _strata(data: Beauty, lists: Mapping[str, Lists], split: Split) -> list[dict[str, Any]]:
    """Recall@10 of each method where the pair of last item and target was met in training or not, by how often both
    items were trained on, and by whether they share their first code."""
    histories, target_U = data.judged(split)
    last_U = np.array([history[-1] for history in histories])
    pairs = {pair for items in data.sequences for pair in zip(items[:-3].tolist(), items[1:-2].tolist(), strict=True)}
    met_U = np.array([pair in pairs for pair in zip(last_U.tolist(), target_U.tolist(), strict=True)])
    target_count_U, last_count_U = data.popularity_N[target_U], data.popularity_N[last_U]
    same_U = data.sids_NT[last_U, 0] == data.sids_NT[target_U, 0]
    strata = {"pair met": met_U, "pair new": ~met_U, "same first code": same_U, "another first code": ~same_U}
    for low, high in BUCKETS:
        name = _bucket_name(low, high)
        inside_U = (target_count_U >= low) & (target_count_U <= high)
        strata |= {f"target {name}": inside_U, f"target {name}, pair new": inside_U & ~met_U}
        strata[f"last item {name}"] = (last_count_U >= low) & (last_count_U <= high)
    hits = {name: one.hits(target_U, 10) for name, one in lists.items()}
    rows = []
    for name, mine_U in strata.items():
        if mine_U.any():
            recall = {method: float(hit_U[mine_U].mean()) for method, hit_U in hits.items()}
            rows.append({"stratum": name, "users": int(mine_U.sum()), **recall})
    return rows


def _bucket_name(low: int, high: int) -> str:
    return f"{low} events" if low == high else f"{low}+ events" if high >= 10**9 else f"{low}-{high} events"


def _means(nats_UT: np.ndarray) -> list[float]:
    return [float(value) for value in nats_UT.mean(axis=0)]
