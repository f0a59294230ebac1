"""The count baselines of a log by name: fitted on its training events, asked for lists of ads.

Shapes: B requests, N items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import pyarrow.compute as pc
from scipy import sparse

from adbeam.evaluation.baselines.ease import Ease
from adbeam.evaluation.baselines.events import Past, TrainingEvents
from adbeam.evaluation.baselines.neighbours import directed_neighbours, sequential_rules
from adbeam.evaluation.baselines.popularity import first_allowed
from adbeam.evaluation.baselines.user_knn import UserKnn
from adbeam.evaluation.config import EvaluationConfig
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import Request


class Scorer(Protocol):
    """What a count baseline is."""

    def score(self, pasts: Sequence[Past]) -> sparse.csr_matrix:
        """float [B, N]: scores above 0 of the items after each past."""


@dataclass(frozen=True)
class CountBaselines:
    """Those that a configuration names."""

    events: TrainingEvents | None
    scorers: Mapping[str, Scorer]
    ads_N: np.ndarray
    """bool [N]: items that may be answered."""

    @classmethod
    def fit(cls, log: PreparedLog, config: EvaluationConfig) -> CountBaselines:
        """Count the training events of `log`; reads nothing where `config.baselines` names no count baseline."""
        wanted = [name for name in config.baselines if name in FITTED]
        if not wanted:
            return cls(None, {}, np.zeros(0, bool))
        events, catalogue = TrainingEvents.read(log), log.catalogue()
        ads_N = pc.equal(catalogue.column("kind"), "ad").combine_chunks().to_numpy(zero_copy_only=False)
        scorers: dict[str, Scorer] = {}
        for name in wanted:
            if name == "neighbours":
                scorers[name] = directed_neighbours(
                    events, catalogue, config.neighbours, ads_N, config.baseline_workers
                )
            elif name == "sequential_rules":
                scorers[name] = sequential_rules(events, config.neighbours, ads_N, config.baseline_workers)
            elif name == "user_knn":
                scorers[name] = UserKnn(events, config.user_knn)
            else:
                scorers[name] = Ease(events, config.ease)
        return cls(events, scorers, ads_N)

    def scores(self, requests: Sequence[Request]) -> dict[str, sparse.csr_matrix]:
        """{name: [B, N]}."""
        if self.events is None:
            return {}
        pasts = [self.events.past(request) for request in requests]
        return {name: scorer.score(pasts) for name, scorer in self.scorers.items()}

    def best(
        self, score_BN: sparse.csr_matrix, row: int, banned: Set[str], k: int, otherwise: Sequence[str]
    ) -> list[str]:
        """The k ads with the highest scores of a row that are not banned, filled up from `otherwise`."""
        assert self.events is not None
        item_ids = self.events.item_ids
        found = (item_ids[item] for item in best_items(score_BN, row, self.ads_N, k + len(banned)))
        return first_allowed(chain(found, otherwise), banned, k)


FITTED = ("neighbours", "sequential_rules", "user_knn", "ease")


def best_items(score_BN: sparse.csr_matrix, row: int, allowed_N: np.ndarray, most: int) -> list[int]:
    """The allowed items of a row with the highest scores, at most `most`; of equal ones the first."""
    span = slice(score_BN.indptr[row], score_BN.indptr[row + 1])
    item, score = score_BN.indices[span], score_BN.data[span]
    fine = allowed_N[item] & (score > 0)
    item, score = item[fine], score[fine]
    if len(score) > most:
        least = np.partition(score, len(score) - most)[len(score) - most]
        item, score = item[score >= least], score[score >= least]
    best: list[int] = item[np.lexsort((item, -score))][:most].tolist()
    return best
