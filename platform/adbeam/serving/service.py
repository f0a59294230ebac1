"""One replica without Ray: admission, backpressure and load shedding, the decoded answer or a fallback, its status.

Every request is answered by its deadline. All methods run on the event loop.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any

from pydantic_core import to_json

from adbeam.beams.config import BeamPolicyConfig
from adbeam.catalogue.creatives.creative import Demands
from adbeam.declared.encoder import ToldCodes
from adbeam.errors import UserError
from adbeam.list_rules.caps import Worn
from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.engine.loaded_model import LoadedModel
from adbeam.serving.engine.request import Query, Refusal
from adbeam.serving.events.event_log import EventLog, NotKept, RequestLog
from adbeam.serving.events.feedback import Feedback
from adbeam.serving.events.profiles import Profiles
from adbeam.serving.http.bodies import Body, decoded_body, fallback_body, receipt_body
from adbeam.serving.http.context import UserBatch, batch_model
from adbeam.serving.http.openrtb import BidRequest, bid_model, bid_response, slots
from adbeam.serving.http.problems import Problem, change_problem, field_problem
from adbeam.serving.http.schemas import AdChanges, AdRequest, EventBatch, changes_model, event_model, request_model
from adbeam.serving.monitoring.recent_answers import RecentAnswers
from adbeam.serving.monitoring.replica_state import publish_state, replica_state
from adbeam.serving.privacy import PrivacyGate
from adbeam.serving.queue.cache import ResultCache
from adbeam.serving.queue.deadlines import AwaitedDecoding
from adbeam.serving.queue.decode_loop import DecodeLoop
from adbeam.serving.queue.explained import explained
from adbeam.serving.queue.stand_ins import StandIns
from adbeam.serving.stores.profiles import of_source
from adbeam.serving.stores.store import HistoryStore, now_ms


class RecommenderService:
    """Answers requests with one model; `start` must run on the event loop that calls the other methods."""

    def __init__(
        self,
        config: ServingConfig,
        model: LoadedModel,
        policy: BeamPolicyConfig,
        store: HistoryStore,
        metrics: Recorder,
        event_log: EventLog | None = None,
        request_log: RequestLog | None = None,
    ) -> None:
        self.config, self.model, self.policy, self.store, self.metrics = config, model, policy, store, metrics
        self.event_type = event_model(config.limits)
        self.bid_type = bid_model(config.limits, config.features, config.openrtb.features)
        self.changes_type = changes_model(config.admin)
        self.users_type = batch_model(of_source(config.features, "user"), config.limits.users_max)
        self.request_type = self._request_type()
        self.cache = ResultCache(config.cache)
        self._stand_ins = StandIns(config, self.cache, metrics)
        self.recent = RecentAnswers()
        self.fleet: Callable[[], dict[str, Any]] = dict
        self._id_prefix, self._ids = uuid.uuid4().hex[:16], count()
        self.in_flight = 0
        self._rung_changes = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="events")
        self._feedback = Feedback(config, store, self.cache, event_log, request_log, self._writer, metrics)
        self._privacy = PrivacyGate(config.privacy, metrics)
        self._profiles = Profiles(config, store, self.cache, self._writer, metrics)
        self._awaited = AwaitedDecoding(model, policy, config.engine.stuck_seconds, metrics)

    def start(self) -> None:
        """Start decoding for the running event loop."""
        self._awaited.start()

    def close(self) -> None:
        """Stop the threads and release the files."""
        self.decoding.close()
        self._writer.shutdown(wait=True)
        self._stand_ins.seen.close()
        if self.model.live is not None:
            self.model.live.stop()
        self._feedback.close()
        self.store.close()

    @property
    def decoding(self) -> DecodeLoop:
        """The decode queue and thread."""
        return self._awaited.decoding

    @property
    def default_deadline_ms(self) -> float:
        """Deadline of a request that names none."""
        return self.policy.default_deadline_ms

    def take_policy(self, policy: BeamPolicyConfig) -> None:
        """Put another beam policy in force."""
        self.policy = policy
        self._awaited.take_policy(policy, self.model)

    def take_model(self, model: LoadedModel) -> None:
        """Put another model in force: requests decoded from now on see it."""
        before, self.model = self.model, model
        self.request_type = self._request_type()
        self.cache.clear()
        self._awaited.take_model(model)
        if before.live is not None:
            self._writer.submit(before.live.stop)

    async def ads(self, request: AdRequest, deadline_ms: float, arrived_s: float) -> bytes | None:
        """The JSON of an AdResponse, None when no ad matches; raises Problem 503 when nothing can be answered."""
        if request.privacy is not None and self._privacy.forbids(request.privacy):
            request = request.of_nobody()
        body = await self._answered(request, deadline_ms, arrived_s, request.debug)
        if request.debug:
            query, awaited = self._query(request), self._awaited
            body["debug"] = await explained(query, body["ads"], self.model, awaited, self.config, deadline_ms)
        return to_json(body) if body["ads"] or request.debug else None

    async def bid(self, request: BidRequest, deadline_ms: float, arrived_s: float) -> bytes | None:
        """The JSON of a BidResponse, None for no bid; raises Problem 503 when nothing can be answered."""
        parts = slots(request, self.model.facts, self.config, self.metrics)
        asked = [self.request_type.model_validate(part.fields) for part in parts]
        test = request.test == 1
        answering = [
            self._answered(each, deadline_ms, arrived_s, test, part.demands)
            for each, part in zip(asked, parts, strict=True)
        ]
        answers = await asyncio.gather(*answering, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        faults = [error for error in refused if not isinstance(error, Problem)]
        if faults or (refused and len(refused) == len(answers)):
            raise (faults or refused)[0]
        answered = [(part, body) for part, body in zip(parts, answers, strict=True) if isinstance(body, dict)]
        worth = self.model.is_worth_bidding
        response = bid_response(request.id, answered, self.config.openrtb, self.metrics, worth)
        return None if response is None else to_json(response)

    async def events(self, batch: EventBatch) -> bytes:
        """The JSON of an EventReceipt; raises Problem 422 for a time in the future, 503 when store or log refuses."""
        try:
            counted = await self._feedback.take(batch, self.model.facts.nobody_words, self.model.campaigns)
        except NotKept as error:
            raise self._unavailable(f"{error}; send the events again") from None
        return to_json(counted)

    async def users(self, batch: UserBatch) -> bytes:
        """The JSON of a UserReceipt; raises Problem 422 for users that cannot be kept, 503 when the store refuses."""
        counted = await self._profiles.take(batch, self.model.facts.nobody_words)
        if counted is None:
            raise self._unavailable("the history store cannot be written; send the users again")
        return to_json(counted)

    async def forget_user(self, user_id: str) -> bytes:
        """The JSON of a ForgottenUser; raises Problem 422 for nobody, 503 when the store refuses."""
        found = await self._profiles.forget(user_id, self.model.facts.nobody_words)
        if found is None:
            raise self._unavailable("the history store cannot be written; ask again")
        return to_json(found._asdict())

    async def change_ads(self, request: AdChanges) -> bytes:
        """The JSON of an AdReceipt; raises Problem 404 without an update log, 422 for a change that cannot be made."""
        live = self.model.live
        if live is None:
            raise Problem(404, "this application follows no update log: set `updates.path` or `updates.redis_url`")
        try:
            last, sids = await asyncio.get_running_loop().run_in_executor(None, live.change, request.changes)
        except UserError as error:
            raise change_problem(error) from None
        return to_json(receipt_body(last, request.changes, sids))

    def health(self) -> str | None:
        """None while the replica works, else what is wrong."""
        return self.decoding.fault()

    def readiness(self) -> str | None:
        """None when requests are welcome."""
        return None if self._awaited.started else "the replica is starting"

    async def path(self, sid: Sequence[int]) -> bytes:
        """The JSON of a TriePath; raises Problem 422 when `sid` does not fit the codebooks."""
        engine = self.model.engine
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, engine.path, sid)
        except UserError as error:
            raise field_problem("sid", str(error), ".".join(map(str, sid))) from None
        return to_json({"model_version": engine.version, "sid": sid, "steps": found})

    def status(self) -> bytes:
        """The JSON of a ReplicaStatus."""
        recent = self.recent.summary()
        state = replica_state(self.model, self.decoding, self.policy, self.config, self.in_flight, recent)
        return to_json({**state, **self.fleet()})

    def count_response(self, route: str, status: int) -> None:
        """Tell the metrics."""
        self.metrics.add("adbeam_responses", route=route, status=str(status))

    def publish(self) -> dict[str, float]:
        """Set the gauges; returns what the autoscaling policy reads."""
        signals = self.decoding.signals()
        self.metrics.add("adbeam_rung_changes", signals.rung_changes - self._rung_changes)
        self._rung_changes = signals.rung_changes
        self._feedback.publish()
        return publish_state(self.model, self.decoding, signals, self.in_flight, self.metrics)

    def _next_id(self) -> str:
        """A request id that no other replica gives."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    async def _answered(
        self, request: AdRequest, deadline_ms: float, arrived_s: float, test: bool = False,
        demands: Demands | None = None,
    ) -> Body:  # fmt: skip
        """The answer to one request, counted, of ads that fit `demands`; raises Problem 503 when nothing can be
        answered."""
        if self.in_flight >= self.config.admission.max_in_flight:
            self.decoding.arrived()
            raise self._overloaded("in_flight")
        self.in_flight += 1
        try:
            query = self._query(request)
            if demands is not None:
                query = replace(query, demands=demands)
            body, told = await self._answer(query, request, deadline_ms, arrived_s)
        finally:
            self.in_flight -= 1
        if body["ads"]:
            source = body["served"]["source"]
            self.metrics.add("adbeam_requests", source=source)
            latency_seconds = time.monotonic() - arrived_s
            self.metrics.observe("adbeam_request_latency_seconds", latency_seconds, source=source)
            self.recent.add(latency_seconds, source)
            if not test:
                self._feedback.answered(query, body, self.model.facts.may_bid, told)
        return body

    def _query(self, request: AdRequest) -> Query:
        facts = self.model.facts
        return request.query(facts.scenes[0], now_ms(), facts.nobody_words, self._feedback.spent)

    async def _answer(
        self, query: Query, request: AdRequest, deadline_ms: float, arrived_s: float
    ) -> tuple[Body, ToldCodes | None]:
        request_id = request.request_id or self._next_id()
        until_s = arrived_s + deadline_ms / 1000
        if (found := await self._stand_ins.repeated(query, self.model, until_s)) is not None:
            return decoded_body(request_id, found, source="cache", degraded=False), found.answer.told
        decode_ms = deadline_ms - self._stand_ins.seen.reserved_ms(query, deadline_ms)
        outcome = await self._awaited.decoded(query, request.value, decode_ms, arrived_s)
        if isinstance(outcome, str):
            worn = await self._stand_ins.seen.worn(query, self.model, until_s)
            return self._degraded(request_id, query, outcome, arrived_s, worn)
        if query.cacheable:
            self.cache.put(query.user_id, query.cache_key(outcome.model_version), outcome)
        self.metrics.add("adbeam_expected_ecpm", outcome.answer.expected_ecpm)
        return decoded_body(request_id, outcome, source="model", degraded=False), outcome.answer.told

    def _degraded(
        self, request_id: str, query: Query, reason: Refusal, arrived_s: float, worn: Worn
    ) -> tuple[Body, ToldCodes | None]:
        """The cached or popular answer for a request that was not decoded; raises Problem 503 when there is neither."""
        if reason == "late":
            self.metrics.add("adbeam_deadline_misses")
        if reason == "queue_full" and not self.policy.answer_late_early:
            raise self._overloaded(reason)
        found = self._stand_ins.cached(query, self.model, worn)
        if found is not None:
            self.metrics.add("adbeam_degraded", reason=reason)
            return decoded_body(request_id, found, source="cache", degraded=True), found.answer.told
        ads = self._stand_ins.popular(query, self.model, worn)
        if not ads and not worn.withheld:
            raise self._overloaded(reason)
        self.metrics.add("adbeam_degraded", reason=reason)
        waited_ms = (time.monotonic() - arrived_s) * 1000
        facts = self.model.facts
        return fallback_body(request_id, ads, facts.version, facts.full_widths, waited_ms), facts.told_by(query)

    def _request_type(self) -> type[AdRequest]:
        config, facts = self.config, self.model.facts
        return request_model(config.limits, config.deadline, facts.scenes, facts.full_widths, config.features)

    def _overloaded(self, reason: str) -> Problem:
        self.metrics.add("adbeam_shed", reason=reason)
        return self._unavailable("the replica is overloaded")

    def _unavailable(self, detail: str) -> Problem:
        return Problem(503, detail, headers={"Retry-After": str(self.config.admission.retry_after_seconds)})
