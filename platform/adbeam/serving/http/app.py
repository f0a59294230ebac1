"""The HTTP application of a replica: routes, the short way of the busiest ones, and the OpenAPI document.

Requests are checked in checks.py and answered as bytes: no framework model is built on the way. The OpenAPI document is
written from the same models that validate.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adbeam.serving.http.checks import AdService, Border, JsonBytes
from adbeam.serving.http.console import add_console
from adbeam.serving.http.openapi import openapi_document
from adbeam.serving.http.problems import Problem

logger = logging.getLogger(__name__)

CLIENT_LEFT = 499
"""Counted for a client that left before its body had come."""


class AdsApi(FastAPI):
    """FastAPI, but the paths of `direct` are answered before its middleware and routing: they cost more than the rest
    of a request does, and such a route raises nothing."""

    direct: Mapping[str, Callable[[Request], Awaitable[Response]]] = MappingProxyType({})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self.direct.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if answer is None:
            return await super().__call__(scope, receive, send)
        response = await answer(Request(scope, receive))
        await response(scope, receive, send)


def build_api(service: AdService) -> FastAPI:
    """The ASGI application of a replica."""
    border = Border(service)
    api = AdsApi(title="adbeam", version=version("adbeam"), redoc_url=None)

    async def ads(request: Request) -> Response:
        return await _answered(service, "ads", border.ads, request)

    async def openrtb(request: Request) -> Response:
        return await _answered(service, "openrtb", border.openrtb, request)

    async def events(request: Request) -> Response:
        return await _answered(service, "events", border.events, request)

    async def users(request: Request) -> Response:
        return await _answered(service, "users", border.users, request)

    async def forget_user(request: Request) -> Response:
        return await _answered(service, "users", border.forget_user, request)

    async def status(request: Request) -> Response:
        return await _answered(service, "status", border.status, request)

    async def change_ads(request: Request) -> Response:
        return await _answered(service, "admin", border.change_ads, request)

    async def path(request: Request) -> Response:
        return await _answered(service, "path", border.path, request)

    async def healthz(request: Request) -> Response:
        return _state(service.health())

    async def readyz(request: Request) -> Response:
        return _state(service.health() or service.readiness())

    api.direct = {"/v1/ads": ads, "/v1/openrtb": openrtb}
    api.add_route("/v1/ads", ads, methods=["POST"])
    api.add_route("/v1/openrtb", openrtb, methods=["POST"])
    api.add_route("/v1/events", events, methods=["POST"])
    api.add_route("/v1/users", users, methods=["POST"])
    api.add_route("/v1/users/{user_id:path}", forget_user, methods=["DELETE"])
    api.add_route("/v1/status", status, methods=["GET"])
    api.add_route("/v1/admin/ads", change_ads, methods=["POST"])
    api.add_route("/v1/path", path, methods=["GET"])
    api.add_route("/healthz", healthz, methods=["GET"])
    api.add_route("/readyz", readyz, methods=["GET"])
    add_console(api)
    api.openapi = lambda: openapi_document(api, service)  # type: ignore[method-assign]
    api.add_exception_handler(HTTPException, _http_error)
    return api


async def _answered(service: AdService, route: str, answer: Any, request: Request) -> Response:
    try:
        response: Response = await answer(request)
    except Problem as problem:
        response = problem.response()
    except ClientDisconnect:
        response = Response(status_code=CLIENT_LEFT)  # nobody reads it: for the count
    except Exception:
        logger.exception("request to /v1/%s failed", route)
        response = Problem(500, "the request failed inside the replica; its log says why").response()
    service.count_response(route, response.status_code)
    return response


def _state(fault: str | None) -> Response:
    return JsonBytes(b'{"status":"ok"}') if fault is None else Problem(503, fault).response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = error.headers
    if request.method == "OPTIONS" and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return Response(status_code=204, headers={"Allow": f"{(headers or {}).get('Allow', '')}, OPTIONS".lstrip(", ")})
    return Problem(
        error.status_code, f"{request.method} {request.url.path}: {error.detail}", headers=headers
    ).response()
