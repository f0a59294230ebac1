"""A bundle behind a replica's queue: queries in, ads out.

Shapes: B requests, H history events, T SID levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from adbeam.beams.ladder import Widths
from adbeam.bundle import Bundle
from adbeam.declared.buckets import told_in_words
from adbeam.declared.encoder import ToldCodes
from adbeam.decoding import ItemFilter
from adbeam.decoding.engines.precision import Precision
from adbeam.decoding.results import DecodeResult
from adbeam.decoding.trie.paths import Step, steps
from adbeam.errors import UserError
from adbeam.inference.recommender import Compute, FoundAd, Recommender
from adbeam.list_rules.caps import NOTHING_WORN, Worn
from adbeam.list_rules.config import FrequencyCap
from adbeam.recorder import Recorder
from adbeam.serving.config import EngineConfig
from adbeam.serving.engine.contexts import ContextBuilder
from adbeam.serving.engine.feature_counts import FeatureCounts
from adbeam.serving.engine.known_users import KnownUsers
from adbeam.serving.engine.list_rules.answer_lists import Ad, AnswerLists
from adbeam.serving.engine.list_rules.closed_rows import ClosedRowCounts, closed_rows
from adbeam.serving.engine.list_rules.frequency import FrequencyCaps, Hidden
from adbeam.serving.engine.list_rules.left_out import Why, reasons
from adbeam.serving.engine.prices import AnswerPrices
from adbeam.serving.engine.request import Answer, Query
from adbeam.serving.stores.store import HistoryStore, UserHistory
from adbeam.serving.stores.trends import StoreTrends
from adbeam.targeting.features import Features
from adbeam.targeting.told import Context


class ModelEngine:
    """Decodes batches of queries with one bundle."""

    def __init__(
        self, bundle: Bundle, config: EngineConfig, store: HistoryStore, metrics: Recorder,
        features: Features | None = None, most: Mapping[str, int] | None = None,
        caps: Sequence[FrequencyCap] = (), withheld: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        """Targeting rules are over `features`; raises UndeclaredFeatures for a bundle with rules over others. `most`
        ads of one kind are in an answer, and none that a user has seen enough of by `caps`, of which the
        kinds `withheld` hold where nobody knows."""
        self.bundle, self.config = bundle, config
        self._known = KnownUsers(store, features or {}, metrics)
        self._feature_counts = FeatureCounts(features or {}, metrics)
        precision: Precision = (
            "float32" if config.precision == "auto" else config.precision
        )  # auto: precision_choice.py
        compute = Compute(config.device, precision, config.compiled, config.threads, config.cuda_graphs)
        self.recommender = Recommender.of(bundle, config.order_by, ecpm=True, compute=compute, features=features or {})
        self.catalogue, self.spec = self.recommender.catalogue, self.recommender.spec
        trends = StoreTrends(store, self.catalogue.sids, self.spec) if self.spec.trending_length else None
        self._contexts = ContextBuilder(self.catalogue, self.spec, trends, bundle.told, self._feature_counts)
        self.scenes = bundle.settings.scene_names
        self.full_widths = full_widths(bundle, config)
        self._priced = bundle.settings.priced  # asked for every ad of every answer
        self.prices = AnswerPrices(bundle, self.catalogue, config.ecpm_scale)
        self._lists = AnswerLists(self.catalogue, self.prices, most or {}, bool(caps), metrics)
        self._frequency = FrequencyCaps(self.catalogue, caps, metrics, withheld)
        self._closed = ClosedRowCounts(self.catalogue, metrics)
        self._has_caps, self._features = bool(caps), features or {}

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.bundle.version

    def prepare_thread(self) -> None:
        """Keep PyTorch from threads of its own: the decoder shares out requests (OpenMP counts per thread)."""
        torch.set_num_threads(1)

    def answer(self, queries: Sequence[Query], schedules: Sequence[Widths]) -> list[Answer]:
        """One answer a query."""
        histories, profiles = self._known.read(queries)
        queries = [query.knowing(profile) for query, profile in zip(queries, profiles, strict=True)]
        self._feature_counts.count(queries)
        told = self._contexts.told(queries)
        context = self._contexts.build(queries, histories, told)
        worn = self._worn(queries, histories)
        filters = [self._filter(*each) for each in zip(queries, histories, worn, strict=True)]
        counts, kept = [query.count for query in queries], self._lists.kept(queries)
        results = self.recommender.decoder.decode(context, list(schedules), filters, counts, kept)
        candidates = [self._found(*each) for each in zip(queries, histories, worn, filters, results, strict=True)]
        filled: list[list[Ad]] = [[] for _ in queries]
        if any(map(self._lists.fills, queries)):
            found, filled = self._lists.chosen(queries, candidates, filters)
        else:
            found = [list(ads) for ads in candidates]
        priced = self.prices.price(found, [query.scene for query in queries])
        codes = [None] * len(queries) if told is None else told
        parts = zip(queries, histories, filters, found, priced, filled, profiles, codes, strict=True)
        return [self._answer(*each) for each in parts]

    def close(self) -> None:
        """Nothing to release: the history store belongs to the replica or, in the decode process, to the process."""

    def path(self, sid: Sequence[int]) -> list[Step]:
        """How the live catalogue narrows along a semantic ID; raises UserError when it does not fit the codebooks."""
        return steps(self.recommender.trie, sid)

    def worn(self, queries: Sequence[Query]) -> list[Worn]:
        """What the users of queries have seen enough of now; may be called from any thread."""
        return self._worn(queries, self._known.read(queries)[0])

    def campaigns(self, item_ids: Sequence[str]) -> list[str | None]:
        """The campaign of each ad now; may be called from any thread."""
        return [self.catalogue.owner(item_id).campaign for item_id in item_ids]

    def why(self, query: Query, item_ids: Sequence[str]) -> Why:
        """What rules make of a query and these ads; may be called from any thread."""
        (history,), (profile,) = self._known.read([query])
        (worn,) = self._worn([query], [history])
        query = query.knowing(profile)
        refused = reasons(query, history, worn, self.catalogue, item_ids)
        closed = closed_rows(query, history, self.catalogue)
        closed |= {name: len(rows) for name, rows in self._frequency.rows(worn).items() if len(rows)}
        values = query.told.features if query.told else {}
        told = told_in_words(self._features, self.bundle.told, values, query.unread)
        return Why(refused, [self.catalogue.rules(item_id) for item_id in item_ids], closed, told)

    def _worn(self, queries: Sequence[Query], histories: Sequence[UserHistory]) -> list[Worn]:
        if not self._has_caps and not any(query.spent for query in queries):
            return [NOTHING_WORN] * len(queries)
        return [self._frequency.worn(*each) for each in zip(queries, histories, strict=True)]

    def _filter(self, query: Query, history: UserHistory, worn: Worn) -> ItemFilter | None:
        found = self.catalogue.item_filter(query.blocked, history.item_ids, query.told, query.allowed, query.demands)
        if found is not None:
            self._closed.count(query, history)
        return self._frequency.without(found, worn) if worn else found

    def _found(
        self, query: Query, history: UserHistory, worn: Worn, item_filter: ItemFilter | None, result: DecodeResult
    ) -> Iterator[FoundAd]:
        """The ads of the found SIDs that the query may show, in the order of the search; as many as may be needed."""
        allow_R = item_filter.allow if item_filter is not None else None
        ids = query.blocked.item_ids | frozenset(history.item_ids if query.blocked.seen else ())
        hidden = Hidden(ids, worn, self.catalogue) if worn else ids
        return islice(self.recommender.found(result, hidden, allow_R), self._lists.candidates(query))

    def _answer(
        self, query: Query, history: UserHistory, item_filter: ItemFilter | None, found: Sequence[FoundAd],
        priced: Sequence[float], filled: Sequence[Ad], profile: Context | None, told: ToldCodes | None,
    ) -> Answer:  # fmt: skip
        """The ads as the response carries them, in falling order of score."""
        ads = [self._ad(ad, price) for ad, price in zip(found, priced, strict=True)]
        if not self._priced:  # the search could not order by money: ads know theirs, buckets do not
            ads.sort(key=lambda ad: -ad["score"])
        ads += filled
        is_filtered = item_filter is not None and item_filter.allow is not None
        texts = {ad["item_id"]: self.catalogue.rules(ad["item_id"]) for ad in ads} if is_filtered else {}
        rules = {item_id: text for item_id, text in texts.items() if text is not None}
        worth = sum(priced) + sum(ad["expected_ecpm"] or 0.0 for ad in filled)
        categories = self._lists.categories(ads)
        if query.demands is not None:
            for ad in ads:
                ad["creative"] = self.catalogue.creative(ad["item_id"])
        return Answer(ads, len(history) == 0, worth, rules, profile, categories, told)

    def _ad(self, found: FoundAd, price: float) -> dict[str, Any]:
        """The search's order is that of the model's own number, and so is the score; the price says what it is worth
        in money of a thousand impressions."""
        probability = math.exp(found.log_probability)
        ordered_by = found.expected_ecpm if self._priced else price
        return self.catalogue.ad(found.row, self._score(probability, ordered_by), probability, price)

    def _score(self, probability: float, ecpm: float) -> float:
        if self.config.order_by == "log_probability":
            return probability
        return ecpm if self.config.order_by == "expected_ecpm" else probability * ecpm


def full_widths(bundle: Bundle, config: EngineConfig) -> Widths:
    """The widths of full quality: the configured ones, else those the bundle was measured with. Raises UserError for
    them, and for a bundle of another decoder than is to be served."""
    if config.decoder not in (None, bundle.model_config.decoder):
        raise UserError(
            f"the bundle {bundle.version} holds a model of decoder {bundle.model_config.decoder}",
            field="engine.decoder",
            value=config.decoder,
            remedy=f"serve a bundle of decoder {config.decoder}, or say engine.decoder: {bundle.model_config.decoder}",
        )
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
