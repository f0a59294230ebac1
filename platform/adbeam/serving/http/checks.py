"""Request validation, before the service sees one: credentials, rate, size, fields, deadline.

Bodies are read and unpacked up to a bound before anything is parsed, and validated straight from JSON bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from adbeam.identity.people import USER_ID_READ
from adbeam.recorder import Recorder
from adbeam.serving.config import ServingConfig
from adbeam.serving.http.auth import Authenticator, RateLimit
from adbeam.serving.http.bid_reading import InvalidBidRequest, read_bid_request
from adbeam.serving.http.compressed import read_body
from adbeam.serving.http.context import UserBatch
from adbeam.serving.http.openrtb import INSUFFICIENT_TIME, INVALID_REQUEST, VERSION, BidRequest
from adbeam.serving.http.problems import Problem, field_problem, validation_problem
from adbeam.serving.http.schemas import AdChanges, AdRequest, EventBatch

DEADLINE_HEADER = "x-deadline-ms"
OPENRTB_HEADERS = {"x-openrtb-version": VERSION}
JSON_HEADER = (b"content-type", b"application/json")
BID_HEADERS = (JSON_HEADER, *((name.encode(), value.encode()) for name, value in OPENRTB_HEADERS.items()))


class JsonBytes(Response):
    """An answer that is JSON bytes already: its headers are put together without a look at what the content is."""

    def __init__(self, body: bytes, status_code: int = 200, headers: Iterable[tuple[bytes, bytes]] = (JSON_HEADER,)):
        self.status_code, self.body, self.background = status_code, body, None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), *headers]


class AdService(Protocol):
    """What the border needs behind it."""

    config: ServingConfig
    metrics: Recorder

    @property
    def request_type(self) -> type[AdRequest]:
        """AdRequest with the bounds and scenes in force."""

    @property
    def default_deadline_ms(self) -> float:
        """Deadline of a request that names none."""

    @property
    def event_type(self) -> type[EventBatch]:
        """EventBatch with the bounds in force."""

    async def ads(self, request: AdRequest, deadline_ms: float, arrived_s: float) -> bytes | None:
        """The JSON of an AdResponse, None when no ad matches; raises Problem."""

    @property
    def bid_type(self) -> type[BidRequest]:
        """BidRequest with the bounds in force."""

    async def bid(self, request: BidRequest, deadline_ms: float, arrived_s: float) -> bytes | None:
        """The JSON of a BidResponse, None for no bid; raises Problem."""

    async def events(self, batch: EventBatch) -> bytes:
        """The JSON of an EventReceipt; raises Problem."""

    @property
    def users_type(self) -> type[UserBatch]:
        """UserBatch with the bound and the features in force."""

    async def users(self, batch: UserBatch) -> bytes:
        """The JSON of a UserReceipt; raises Problem."""

    async def forget_user(self, user_id: str) -> bytes:
        """The JSON of a ForgottenUser; raises Problem."""

    def health(self) -> str | None:
        """None while the replica works, else what is wrong."""

    def readiness(self) -> str | None:
        """None when requests are welcome, else what is missing."""

    def status(self) -> bytes:
        """The JSON of a ReplicaStatus."""

    @property
    def changes_type(self) -> type[AdChanges]:
        """AdChanges with the bound in force."""

    async def change_ads(self, request: AdChanges) -> bytes:
        """The JSON of an AdReceipt; raises Problem."""

    async def path(self, sid: Sequence[int]) -> bytes:
        """The JSON of a TriePath; raises Problem."""

    def count_response(self, route: str, status: int) -> None:
        """Tell the metrics."""


class Border:
    """Reads, checks and answers requests for one service."""

    def __init__(self, service: AdService) -> None:
        self.service = service
        self.limits, self.deadline = service.config.limits, service.config.deadline
        self.authenticator = Authenticator(service.config.auth)
        self.admin = Authenticator(service.config.admin)
        self.rate_limit = RateLimit(service.config.limits)

    async def ads(self, request: Request) -> Response:
        """POST /v1/ads."""
        arrived_s = time.monotonic()
        body = await self._admit(request)
        asked = _validated(self.service.request_type, body)
        if asked.debug:
            self._check_admin(request, "nothing is explained here")
        answer = await self.service.ads(asked, self._deadline_ms(request, asked), arrived_s)
        return Response(status_code=204) if answer is None else JsonBytes(answer)

    async def openrtb(self, request: Request) -> Response:
        """POST /v1/openrtb: an OpenRTB 2.6 bid request; 204 is no bid."""
        arrived_s = time.monotonic()
        body = await self._admit(request)
        try:
            asked = read_bid_request(body, self.service.bid_type, self.limits, self.service.metrics)
        except InvalidBidRequest as invalid:
            return _no_bid(invalid.request_id, INVALID_REQUEST)
        deadline_ms = self.service.default_deadline_ms
        if asked.tmax is not None:
            deadline_ms = min(asked.tmax - self.service.config.openrtb.network_ms, self.deadline.max_ms)
        if deadline_ms < self.deadline.min_ms:
            return _no_bid(asked.id, INSUFFICIENT_TIME)
        answer = await self.service.bid(asked, deadline_ms, arrived_s)
        if answer is None:
            return Response(status_code=204, headers=OPENRTB_HEADERS)
        return JsonBytes(answer, headers=BID_HEADERS)

    async def events(self, request: Request) -> Response:
        """POST /v1/events."""
        body = await self._admit(request)
        batch = _validated(self.service.event_type, body)
        return JsonBytes(await self.service.events(batch), 202)

    async def users(self, request: Request) -> Response:
        """POST /v1/users."""
        batch = _validated(self.service.users_type, await self._admit(request))
        return JsonBytes(await self.service.users(batch))

    async def forget_user(self, request: Request) -> Response:
        """DELETE /v1/users/ID."""
        self._check_caller(request)
        user_id: str = request.path_params["user_id"]
        if len(user_id) > USER_ID_READ:
            raise field_problem("user_id", f"Input should have at most {USER_ID_READ:,} characters", user_id)
        return JsonBytes(await self.service.forget_user(user_id))

    async def status(self, request: Request) -> Response:
        """GET /v1/status."""
        self._check_caller(request)
        return JsonBytes(self.service.status())

    async def path(self, request: Request) -> Response:
        """GET /v1/path?sid=3.1.4."""
        self._check_caller(request)
        text = request.query_params.get("sid", "")
        try:
            sid = [int(code) for code in text.split(".")]
        except ValueError:
            raise field_problem("sid", "Input should be codes with dots between, such as 3.1.4", text) from None
        return JsonBytes(await self.service.path(sid))

    async def change_ads(self, request: Request) -> Response:
        """POST /v1/admin/ads: with keys of its own, never open."""
        self._check_admin(request, "ads cannot be changed here")
        changes = _validated(self.service.changes_type, await read_body(request, self.limits.body_bytes))
        return JsonBytes(await self.service.change_ads(changes))

    def _check_admin(self, request: Request, otherwise: str) -> None:
        if self.admin.mode == "none":
            raise Problem(403, f"{otherwise}: set `admin.mode: bearer` and give it keys")
        if self.admin.caller(request.headers) is None:
            raise Problem(401, "admin credentials are missing or wrong", headers=self.admin.challenge)

    async def _admit(self, request: Request) -> bytes:
        """The body of a request that may come in; raises Problem 400, 401, 413, 415 or 429."""
        self._check_caller(request)
        return await read_body(request, self.limits.body_bytes)

    def _check_caller(self, request: Request) -> None:
        caller = self.authenticator.caller(request.headers)
        if caller is None:
            raise Problem(401, "credentials are missing or wrong", headers=self.authenticator.challenge)
        if not self.rate_limit.allows(caller):
            retry = {"Retry-After": str(self.service.config.admission.retry_after_seconds)}
            raise Problem(429, f"more than {self.limits.requests_per_second:g} requests/s", headers=retry)

    def _deadline_ms(self, request: Request, asked: AdRequest) -> float:
        header = request.headers.get(DEADLINE_HEADER)
        if header is None:
            return asked.deadline_ms if asked.deadline_ms is not None else self.service.default_deadline_ms
        try:
            deadline_ms = float(header)
        except ValueError:
            raise field_problem("X-Deadline-Ms", "Input should be a number of milliseconds", header) from None
        if not self.deadline.min_ms <= deadline_ms <= self.deadline.max_ms:
            bounds = f"between {self.deadline.min_ms:g} and {self.deadline.max_ms:g}"
            raise field_problem("X-Deadline-Ms", f"Input should be {bounds}", header)
        return deadline_ms


def _no_bid(request_id: str, reason: int) -> Response:
    return JsonBytes(to_json({"id": request_id, "nbr": reason}), headers=BID_HEADERS)


def _validated(model: Any, body: bytes) -> Any:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise validation_problem(error) from None
