"""A bundle ready to answer: model, trie, catalogue and what decoding costs here.

`load_model` is the one way from a path to a LoadedModel; tests and other model families may hand a replica their own.
Shapes: B requests, H history events, T SID levels.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adbeam.beams.config import BeamPolicyConfig
from adbeam.beams.cost import BatchCost
from adbeam.beams.ladder import Ladder, Widths, quality_by_widths
from adbeam.bundle import Bundle, load_bundle
from adbeam.decoding import Decoder, ItemFilter, Trie
from adbeam.decoding.branches import Step, steps
from adbeam.decoding.results import DecodeResult
from adbeam.errors import UserError
from adbeam.features.spec import FeatureSpec
from adbeam.model import build_model
from adbeam.records import ACTIONS, ITEM_KINDS
from adbeam.serving.catalogue import AdCatalogue, PopularAds
from adbeam.serving.config import EngineConfig, ServingConfig
from adbeam.serving.decode_loop import Engine
from adbeam.serving.histories import ContextBuilder
from adbeam.serving.live import Live, LiveAds
from adbeam.serving.metrics import Recorder
from adbeam.serving.query import Answer, Blocked, Query
from adbeam.serving.store import EMPTY, HistoryStore, UserHistory, user_history
from adbeam.serving.trends import StoreTrends
from adbeam.tokens.updates_open import open_log

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """Everything a replica takes over when a model comes into force."""

    engine: Engine
    cost: BatchCost
    full_widths: Widths
    quality: dict[Widths, float] | None
    scenes: tuple[str, ...]
    popular_ads: PopularAds
    loaded_s: float
    live: Live | None = None
    """What keeps the ads on the update log, where there is one."""

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.engine.version

    def ladder(self, policy: BeamPolicyConfig) -> Ladder:
        """The rungs of this model under a policy."""
        return Ladder.build(self.full_widths, self.cost, self.quality, policy.ladder)

    def popular(self, blocked: Blocked, count: int) -> list[dict[str, Any]]:
        """Popular ads for a request that is not decoded."""
        return self.popular_ads.pick(blocked, count)

    def without_dead(self, ads: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The ads of an earlier answer that may still be shown."""
        return ads if self.live is None else [ad for ad in ads if self.live.is_live(ad["item_id"])]


class ModelEngine:
    """Decodes batches of queries with one bundle."""

    def __init__(self, bundle: Bundle, config: EngineConfig, store: HistoryStore, metrics: Recorder) -> None:
        self.bundle, self.config, self._store, self._metrics = bundle, config, store, metrics
        self.catalogue = AdCatalogue(bundle.catalogue, bundle.model_config.levels)
        self.spec = FeatureSpec.of(bundle.model_config)
        trends = StoreTrends(store, self.catalogue.sids, self.spec) if self.spec.trending_length else None
        self._contexts = ContextBuilder(self.catalogue, self.spec, trends)
        self.scenes = bundle.settings.scene_names
        self.full_widths = full_widths(bundle, config)
        model = build_model(bundle.model_config)
        model.load_state_dict(bundle.weights)
        self.model = model.to(config.device).eval()
        self.trie = Trie.build(self.catalogue.sids_RT, bundle.model_config.codebooks, self.catalogue.live_R)
        self.decoder = Decoder(
            self.model, self.trie, bundle.settings.ecpm_means, config.order_by, config.precision, config.compiled,
            threads=config.threads, cuda_graphs=config.cuda_graphs,
        )  # fmt: skip

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.bundle.version

    def prepare_thread(self) -> None:
        """Keep PyTorch from threads of its own: the decoder shares out requests (OpenMP counts per thread)."""
        torch.set_num_threads(1)

    def answer(self, queries: Sequence[Query], schedules: Sequence[Widths]) -> list[Answer]:
        """One answer a query."""
        histories = self._histories(queries)
        context = self._contexts.build(queries, histories)
        filters = [self._filter(query, history) for query, history in zip(queries, histories, strict=True)]
        results = self.decoder.decode(context, list(schedules), filters, [query.count for query in queries])
        return [
            self._answer(query, history, item_filter, result)
            for query, history, item_filter, result in zip(queries, histories, filters, results, strict=True)
        ]

    def close(self) -> None:
        """Nothing to release: the history store belongs to the replica or, in the decode process, to the process."""

    def path(self, sid: Sequence[int]) -> list[Step]:
        """How the live catalogue narrows along a semantic ID; raises UserError when it does not fit the codebooks."""
        return steps(self.trie, sid)

    def _histories(self, queries: Sequence[Query]) -> list[UserHistory]:
        """Inline histories as they are, the others from the store in one go."""
        users = list(dict.fromkeys(q.user_id for q in queries if q.history is None and q.user_id is not None))
        stored = dict(zip(users, self._stored(users), strict=True))
        return [
            user_history(
                (e.item_id, e.timestamp, ACTIONS.index(e.action), ITEM_KINDS.index(e.item_kind), e.value)
                for e in query.history
            )
            if query.history is not None
            else stored.get(query.user_id or "") or EMPTY
            for query in queries
        ]

    def _stored(self, users: Sequence[str]) -> Sequence[UserHistory | None]:
        try:
            return self._store.recent_many(users) if users else []
        except Exception:
            logger.exception("the history store cannot be read; %d users count as unknown", len(users))
            self._metrics.add("adbeam_store_failures", operation="recent")
            return [None] * len(users)

    def _filter(self, query: Query, history: UserHistory) -> ItemFilter | None:
        return self.catalogue.item_filter(query.blocked, history.item_ids) if query.blocked else None

    def _answer(
        self, query: Query, history: UserHistory, item_filter: ItemFilter | None, result: DecodeResult
    ) -> Answer:
        """The items of the found SIDs, less those that the filter blocks beside an allowed one of the same SID."""
        allow = item_filter.allow if item_filter is not None else None
        hidden = query.blocked.item_ids | frozenset(history.item_ids if query.blocked.seen else ())
        ads: list[dict[str, Any]] = []
        found = zip(
            result.sids_nT.tolist(), result.log_probability_n.tolist(), result.expected_ecpm_n.tolist(), strict=True
        )
        for sid, log_probability, ecpm in found:
            probability = math.exp(log_probability)
            score = self._score(probability, ecpm)
            for item_id in self.catalogue.index.items(sid):
                row = self.catalogue.row_of.get(item_id)
                if row is None or item_id in hidden or (allow is not None and not allow[row : row + 1].any()):
                    continue  # a row that came since the search is none yet, or none that the filter has seen
                ads.append(self.catalogue.ad(row, score, probability, ecpm))
            if len(ads) >= query.count:
                break
        ads = ads[: query.count]
        return Answer(ads, len(history) == 0, sum(ad["expected_ecpm"] for ad in ads))

    def _score(self, probability: float, ecpm: float) -> float:
        if self.config.order_by == "log_probability":
            return probability
        return ecpm if self.config.order_by == "expected_ecpm" else probability * ecpm


def full_widths(bundle: Bundle, config: EngineConfig) -> Widths:
    """The widths of full quality: the configured ones, else those the bundle was measured with."""
    measured = [tuple(entry["widths"]) for entry in bundle.ladder_quality.get("schedules", ())]
    widths = config.widths or bundle.ladder_quality.get("full_widths") or max(measured, key=sum, default=None)
    if widths is None:
        raise UserError(
            "the bundle does not say how wide to search", field="engine.widths", remedy="name one width a SID level"
        )
    if len(widths) != bundle.model_config.levels:
        raise UserError(
            f"needs {bundle.model_config.levels} widths, one a SID level", field="engine.widths", value=list(widths)
        )
    return tuple(widths)


def load_model(
    path: Path,
    config: ServingConfig,
    policy: BeamPolicyConfig,
    store: HistoryStore,
    metrics: Recorder,
    cost: BatchCost | None = None,
) -> LoadedModel:
    """Verify and load a bundle, decode once, and time decodes unless `cost` is known.

    Raises UserError naming what is wrong with the bundle; call it in a thread of its own where requests are served.
    """
    from adbeam.serving.calibrate import calibrate, check, record

    engine = ModelEngine(load_bundle(path), config.engine, store, metrics)
    engine.prepare_thread()
    check(engine)
    quality = quality_by_widths(engine.bundle.ladder_quality)
    widths = engine.full_widths
    ladder = Ladder.build(widths, None, quality, policy.ladder)
    if config.engine.cuda_graphs:
        record(engine, ladder, policy.max_batch, config.limits.count_max)
    if cost is None:
        cost = calibrate(engine, ladder, policy.max_batch, config.engine.calibration_seconds)
        logger.info(
            "decoding costs %.2f ms + a request (%.2f ms + rows x %.4f ms)", cost.a_ms, cost.c0_ms, cost.c1_ms_per_row
        )
    if config.engine.cuda_graphs:  # what it costs has a say in which rungs there are
        record(engine, Ladder.build(widths, cost, quality, policy.ladder), policy.max_batch, config.limits.count_max)
    popular = engine.catalogue.popular(config.fallback.size)
    live = follow(engine, config, metrics)
    return LoadedModel(engine, cost, widths, quality, engine.scenes, popular, time.monotonic(), live)


def follow(engine: ModelEngine, config: ServingConfig, metrics: Recorder) -> LiveAds | None:
    """Bring a model up to date with the update log and keep it there; None where no log is configured.

    Raises UserError when the log and the bundle do not belong together.
    """
    updates = open_log(config.updates)
    if updates is None:
        return None
    live = LiveAds(engine.bundle, engine.catalogue, engine.trie, updates, config.updates.poll_ms, metrics)
    live.start()
    return live
