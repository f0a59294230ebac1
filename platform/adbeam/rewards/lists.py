"""Candidate lists of requests: a wide beam, exploration below it, and what each candidate is worth (GR4AD 1.8.1).

The candidates are, in this order of claim: ads that followed in the log, the top of the beam, draws from below
it without replacement by probability (Gumbel top-k), and draws from all live ads. All have the log-probability that
the generating model gives them, so a trainer needs no second model.

Shapes: B requests, n candidates, T SID levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch

from adbeam.bundle import Bundle
from adbeam.features.batch import ContextBatch, TrainBatch
from adbeam.features.contexts import Contexts, Moment, build_contexts
from adbeam.features.history import History
from adbeam.features.spec import FeatureSpec
from adbeam.inference.recommender import Recommender
from adbeam.logs.requests import Request, UserSequence
from adbeam.logs.trending import TrendTable
from adbeam.records import LIST_SAMPLE_SCHEMA
from adbeam.rewards.config import ListsConfig
from adbeam.rewards.features import Past
from adbeam.rewards.scoring import Question, RewardModel

Sid = tuple[int, ...]


def sample_schema(spec: FeatureSpec) -> pa.Schema:
    """LIST_SAMPLE_SCHEMA, its token features wider where a byte does not hold them."""
    place = LIST_SAMPLE_SCHEMA.get_field_index("features")
    wide = pa.field("features", pa.list_(pa.int32()), nullable=False)
    return LIST_SAMPLE_SCHEMA.set(place, wide) if spec.wide_token else LIST_SAMPLE_SCHEMA


@dataclass(frozen=True)
class Ask:
    """One moment of one user for which candidates are wanted. Events from the moment on are not looked at."""

    request_id: str
    moment: Moment
    events: UserSequence
    exposed: tuple[str, ...] = ()
    """Ads known to have followed."""

    @classmethod
    def of(cls, request: Request, *, exposed: bool = True) -> Self:
        """What a logged request asks."""
        moment = Moment(request.now_ms, request.scene, request.sequence.user_id, request.told)
        return cls(request.request_id, moment, request.sequence, tuple(request.ad_targets()) if exposed else ())


class ListMaker:
    """Generates with one bundle and judges with one reward model."""

    def __init__(
        self,
        bundle: Bundle,
        reward: RewardModel,
        config: ListsConfig,
        widths: Sequence[int],
        seed: int,
        trends: TrendTable | None = None,
        source: str = "generate_lists",
    ) -> None:
        self.config, self.reward, self.source = config, reward, source
        self.widths = tuple(round(width * config.width_multiple) for width in widths)
        self.recommender = Recommender.of(bundle, include_paused=True, trends=trends)
        self.model = self.recommender.model
        self.schema = sample_schema(self.recommender.spec)
        self.model_version = bundle.version
        self.tokens_version = bundle.settings.tokens_version
        self._live = self.recommender.live_sids()
        self._seed = seed

    def samples(self, asks: Sequence[Ask]) -> list[dict[str, Any]]:
        """One row of `schema` each; asks for which fewer than two candidates exist are left out."""
        if not asks:
            return []
        contexts = self._contexts(asks)
        batch = contexts.batch()
        results = self.recommender.decoder.decode(batch, [self.widths] * len(asks))
        chosen = [
            self._choose(ask, [tuple(sid) for sid in found.sids_nT.tolist()], found.log_probability_n.numpy())
            for ask, found in zip(asks, results, strict=True)
        ]
        log_probability = self._log_probabilities(batch, chosen)
        rewards = self.reward.judge([self._question(ask, part) for ask, part in zip(asks, chosen, strict=True)])
        rows = zip(asks, range(len(asks)), chosen, rewards, log_probability, strict=True)
        return [self._row(ask, contexts, b, part, *rest) for ask, b, part, *rest in rows if len(part) > 1]

    def _contexts(self, asks: Sequence[Ask]) -> Contexts:
        histories = []
        for ask in asks:
            code_HT, known_H = self.recommender.catalogue.sids.describe(ask.events.item_H)
            histories.append(History.of(ask.events, code_HT[known_H], known_H).before(ask.moment.now_ms))
        return build_contexts(histories, [ask.moment for ask in asks], self.recommender.spec, self.recommender.trends)

    def _choose(self, ask: Ask, beam: list[Sid], log_probability_w: np.ndarray) -> dict[Sid, str]:
        """{SID: item} of up to n candidates. The draw depends on the request and the seed only."""
        config, chosen = self.config, dict[Sid, str]()
        rng = np.random.default_rng([self._seed, *ask.request_id.encode()])
        for item in ask.exposed[: config.candidates // 2]:
            sid = self.recommender.sid(item)
            if sid is not None:
                chosen[sid] = item
        random = round(config.random_share * config.candidates)
        explored = round(config.explored_share * config.candidates)
        top = max(1, config.candidates - len(chosen) - explored - random)
        self._take(chosen, beam[:top], top)
        below = slice(top, None)
        noise = rng.gumbel(size=len(beam))[below]
        order = np.argsort(-(log_probability_w[below] / config.temperature + noise), kind="stable")
        self._take(chosen, [beam[top + place] for place in order.tolist()], explored)
        if len(self._live):
            draws = self._live[rng.integers(len(self._live), size=4 * max(random, 1))].tolist()
            self._take(chosen, [tuple(sid) for sid in draws], random)
        # What a small catalogue could not fill comes from the beam.
        self._take(chosen, beam, config.candidates - len(chosen))
        return chosen

    def _take(self, chosen: dict[Sid, str], sids: Sequence[Sid], count: int) -> None:
        """Add up to `count` of `sids` that are not there yet, as long as there is room."""
        count = min(count, self.config.candidates - len(chosen))
        for sid in sids:
            if count <= 0:
                return
            items = self.recommender.items(sid)
            if sid not in chosen and items:
                chosen[sid], count = items[0], count - 1

    @torch.inference_mode()
    def _log_probabilities(self, context: ContextBatch, chosen: Sequence[dict[Sid, str]]) -> list[np.ndarray]:
        """log p(SID | X) of each request's candidates, teacher forced, float64 [n]."""
        n, levels = max(1, max(map(len, chosen))), len(self.model.config.codebooks)
        code_B1nT = torch.zeros(len(chosen), 1, n, levels, dtype=torch.int64)
        for b, part in enumerate(chosen):
            if part:
                code_B1nT[b, 0, : len(part)] = torch.tensor(list(part))
        shape = code_B1nT.shape[:3]
        batch = TrainBatch(
            context, torch.full((len(chosen), 1), context.mask_BS.shape[1]), code_B1nT,
            torch.full(shape, -1), torch.ones(shape),
        )  # fmt: skip
        sid_Bn = self.model.train_losses(batch, mtp=False)["sid"][:, 0].double().numpy()
        return [-sid_Bn[b, : len(part)] for b, part in enumerate(chosen)]

    def _question(self, ask: Ask, part: dict[Sid, str]) -> Question:
        items, now_ms = self.reward.items, ask.moment.now_ms
        past = Past.of(ask.events, items.rows(ask.events.item_H)).before(now_ms)
        return Question(
            past, now_ms, ask.moment.scene, ask.moment.user_id, items.rows(list(part.values())), ask.moment.told
        )

    def _row(
        self, ask: Ask, contexts: Contexts, b: int, part: dict[Sid, str], reward_n: np.ndarray, log_p_n: np.ndarray
    ) -> dict[str, Any]:
        trend_code, trend_feature = contexts.trend_code_BNT, contexts.trend_feature_BNC
        return {
            "sample_id": f"{self.source}/{self.model_version}/{ask.moment.user_id}/{ask.request_id}",
            "request_id": ask.request_id,
            "user_id": ask.moment.user_id or "",
            "timestamp": ask.moment.now_ms,
            "scene": ask.moment.scene,
            "static": contexts.static_BF[b],
            "codes": contexts.code_BST[b].ravel(),
            "features": contexts.feature_BSC[b].ravel(),
            "trend_codes": None if trend_code is None else trend_code[b].ravel(),
            "trend_features": None if trend_feature is None else trend_feature[b].ravel(),
            "item_ids": list(part.values()),
            "sids": [list(sid) for sid in part],
            "rewards": [float(value) if np.isfinite(value) else None for value in reward_n],
            "log_probabilities": np.minimum(log_p_n, 0.0).tolist(),
            "source": self.source,
            "model_version": self.model_version,
            "tokens_version": self.tokens_version,
        }
