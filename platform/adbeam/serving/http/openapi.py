"""The OpenAPI document of a replica, written from the models that validate its requests."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from adbeam.serving.http.answer_schemas import (
    AdReceipt,
    AdResponse,
    EventReceipt,
    ForgottenUser,
    Problem,
    ReplicaStatus,
    TriePath,
    UserReceipt,
)
from adbeam.serving.http.openrtb import BidResponse
from adbeam.serving.http.problems import CONTENT_TYPE

PROBLEMS = {
    "400": "Malformed JSON, or a compressed body that is damaged",
    "401": "Credentials missing or wrong",
    "413": "Body too large, as sent or once unpacked",
    "415": "A Content-Encoding other than gzip, deflate and zstd; see Accept-Encoding",
    "422": "A field is wrong; `errors` names it",
    "429": "Over the rate limit",
    "503": "Overloaded; see Retry-After",
}


ADMIN = {"admin": {"type": "http", "scheme": "bearer"}}
ADMIN_PROBLEMS = {"403": "The admin route is off", "404": "The application follows no update log"}
ANSWERS = (
    AdReceipt,
    AdResponse,
    BidResponse,
    EventReceipt,
    ForgottenUser,
    Problem,
    ReplicaStatus,
    TriePath,
    UserReceipt,
)


def openapi_document(api: FastAPI, service: Any) -> dict[str, Any]:
    """The document with the bounds, scenes and authentication in force now."""
    request, events = service.request_type, service.event_type
    changes, bid, users = service.changes_type, service.bid_type, service.users_type
    models: list[tuple[type[BaseModel], JsonSchemaMode]]
    models = [(model, "validation") for model in (request, events, users, changes, bid)]
    models += [(model, "serialization") for model in ANSWERS]
    _, schema = models_json_schema(models, ref_template="#/components/schemas/{model}")
    document = get_openapi(title=api.title, version=api.version, routes=[], summary="Ads from a generative recommender")
    document["components"] = {"schemas": schema["$defs"], "securitySchemes": {**_schemes(service), **ADMIN}}
    secured: list[dict[str, list[str]]] = [{name: []} for name in _schemes(service)]
    document["paths"] = {
        "/v1/ads": {"post": {**_ads(request.__name__), "security": secured}},
        "/v1/openrtb": {"post": {**_openrtb(bid.__name__), "security": secured}},
        "/v1/events": {"post": {**_events(events.__name__), "security": secured}},
        "/v1/users": {"post": {**_users(users.__name__), "security": secured}},
        "/v1/users/{user_id}": {"delete": {**_forget(), "security": secured}},
        "/v1/status": {"get": {**_status(), "security": secured}},
        "/v1/admin/ads": {"post": {**_changes(changes.__name__), "security": [{"admin": []}]}},
        "/v1/path": {"get": {**_path(), "security": secured}},
        "/healthz": {"get": _state("Whether the replica works")},
        "/readyz": {"get": _state("Whether requests are welcome")},
    }
    return document


def _ads(request: str) -> dict[str, Any]:
    deadline = {
        "name": "X-Deadline-Ms",
        "in": "header",
        "required": False,
        "description": "Time for the answer in milliseconds; wins over `deadline_ms`.",
        "schema": {"type": "number"},
    }
    return {
        "summary": "Ads for one slot",
        "operationId": "ads",
        "parameters": [deadline],
        "requestBody": _body(request),
        "responses": {
            "200": {"description": "Ads in falling order of score", **_json("AdResponse")},
            "204": {"description": "No ad matches"},
            **_problems(),
            "403": {"description": "`debug` is asked for, and there are no admin keys", **_problem_content()},
        },
    }


def _openrtb(request: str) -> dict[str, Any]:
    return {
        "summary": "Bids for an OpenRTB 2.6 bid request; fields that cannot be read are as if absent",
        "operationId": "openrtb",
        "requestBody": _body(request),
        "responses": {
            "200": {"description": "Bids, or `nbr` and none", **_json("BidResponse")},
            "204": {"description": "No bid"},
            **{status: problem for status, problem in _problems().items() if status != "422"},
        },
    }


def _events(batch: str) -> dict[str, Any]:
    return {
        "summary": "Impressions, clicks and conversions; the same event_id counts once",
        "operationId": "events",
        "requestBody": _body(batch),
        "responses": {"202": {"description": "Counted", **_json("EventReceipt")}, **_problems()},
    }


def _users(batch: str) -> dict[str, Any]:
    return {
        "summary": "Profiles of users, each in place of the one that is kept; posting again is safe",
        "operationId": "users",
        "requestBody": _body(batch),
        "responses": {"200": {"description": "Kept", **_json("UserReceipt")}, **_problems()},
    }


def _forget() -> dict[str, Any]:
    user_id = {"name": "user_id", "in": "path", "required": True, "description": "Percent-encoded.",
               "schema": {"type": "string"}}  # fmt: skip
    problems = {status: problem for status, problem in _problems().items() if status in ("401", "422", "429", "503")}
    return {
        "summary": "Forget a user: the profile and the stored history",
        "operationId": "forget_user",
        "parameters": [user_id],
        "responses": {"200": {"description": "What was kept until now", **_json("ForgottenUser")}, **problems},
    }


def _changes(request: str) -> dict[str, Any]:
    return {
        "summary": "Insert, update, pause, resume or remove ads; every replica follows within a second",
        "operationId": "change_ads",
        "requestBody": _body(request),
        "responses": {
            "200": {"description": "Written to the update log", **_json("AdReceipt")},
            **_problems(),
            **{status: {"description": text, **_problem_content()} for status, text in ADMIN_PROBLEMS.items()},
        },
    }


def _status() -> dict[str, Any]:
    problems = {status: problem for status, problem in _problems().items() if status in ("401", "429")}
    return {
        "summary": "The load and the beams of the replica that answers",
        "operationId": "status",
        "responses": {"200": {"description": "State", **_json("ReplicaStatus")}, **problems},
    }


def _path() -> dict[str, Any]:
    sid = {
        "name": "sid",
        "in": "query",
        "required": True,
        "description": "A semantic id, its codes with dots between: `3.1.4`.",
        "schema": {"type": "string"},
    }
    problems = {status: problem for status, problem in _problems().items() if status in ("401", "422", "429")}
    return {
        "summary": "How the live catalogue narrows along a semantic id",
        "operationId": "path",
        "parameters": [sid],
        "responses": {"200": {"description": "The prefixes that are live", **_json("TriePath")}, **problems},
    }


def _state(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "Yes"}, "503": {"description": "No"}}}


def _problems() -> dict[str, Any]:
    return {status: {"description": text, **_problem_content()} for status, text in PROBLEMS.items()}


def _problem_content() -> dict[str, Any]:
    return {"content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _body(model: str) -> dict[str, Any]:
    return {"required": True, **_json(model)}


def _json(model: str) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}}


def _schemes(service: Any) -> dict[str, Any]:
    auth = service.config.auth
    if auth.mode == "none":
        return {}
    if auth.mode == "bearer":
        return {"bearer": {"type": "http", "scheme": "bearer"}}
    return {"api_key": {"type": "apiKey", "in": "header", "name": auth.header}}
