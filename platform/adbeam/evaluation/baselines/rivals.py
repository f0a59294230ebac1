"""All rankings that a model is held against, by name: popularity, repeats, and what counts know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from scipy import sparse

from adbeam.evaluation.baselines.counts import CountBaselines
from adbeam.evaluation.baselines.popularity import Popularity
from adbeam.evaluation.config import BaselineName, EvaluationConfig
from adbeam.logs.prepared import PreparedLog
from adbeam.logs.requests import Request


@dataclass(frozen=True)
class Rivals:
    """The baselines that a configuration names."""

    names: tuple[BaselineName, ...]
    popularity: Popularity
    counts: CountBaselines

    @classmethod
    def of(cls, log: PreparedLog, popularity: Popularity, config: EvaluationConfig) -> Rivals:
        """Fit what has to be fitted."""
        return cls(config.baselines, popularity, CountBaselines.fit(log, config))

    def scores(self, requests: Sequence[Request]) -> dict[str, sparse.csr_matrix]:
        """What `answers` needs of these requests, once for all questions."""
        return self.counts.scores(requests)

    def answers(
        self, request: Request, row: int, scores: Mapping[str, sparse.csr_matrix], banned: Set[str], k: int
    ) -> dict[str, list[str]]:
        """{name: the first k ads that are not banned}; `row` is the request's place among those of `scores`."""
        ranked = self.popularity.ranked
        return {
            name: self.counts.best(scores[name], row, banned, k, ranked)
            if name in scores
            else getattr(self.popularity, name)(request, banned, k)
            for name in self.names
        }
