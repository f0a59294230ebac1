"""Error answers: RFC 9457 bodies that name the field, the value and what would be right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from adbeam.catalogue.live import LogUnavailable
from adbeam.errors import UserError

TOO_DEEP, LEVELS_READ, NAMED_LEVELS = "recursion limit", 200, 3
"""How the parser of JSON says that a body is nested too deep for it, and how deep it reads."""
SCANNED_CHARACTERS = 1 << 16
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:]')
CONTENT_TYPE = "application/problem+json"
SHOWN_ERRORS = 20
SHOWN_CHARACTERS = 300
"""Of one message: a bundle may have thousands of scenes."""


class Problem(Exception):
    """An HTTP error on its way out. `errors` are {field, message, value} mappings."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, list(errors), dict(headers or {})

    def response(self) -> Response:
        """The answer to send."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "errors": self.errors,
        }
        return Response(to_json(body), status_code=self.status, media_type=CONTENT_TYPE, headers=self.headers)


def field_problem(field: str, message: str, value: Any = None, status: int = 422) -> Problem:
    """One field is wrong."""
    return Problem(status, f"{field}: {message}", errors=[{"field": field, "message": message, "value": _shown(value)}])


def change_problem(error: UserError) -> Problem:
    """Why ads were not changed: 422 for what was asked, 503 for the log."""
    if isinstance(error, LogUnavailable):
        return Problem(503, error.what)
    return field_problem(error.field or "changes", error.what, error.value)


def validation_problem(error: ValidationError) -> Problem:
    """400 for malformed JSON, 422 naming every wrong field otherwise."""
    items = error.errors(include_url=False, include_context=False)
    if items[0]["type"] == "json_invalid":
        message = items[0]["msg"].removeprefix("Invalid JSON: ")
        if TOO_DEEP in message:
            place = _deep_place(items[0].get("input"))
            return Problem(400, f"{place}: nested deeper than {LEVELS_READ} levels: leave it out or flatten it")
        return Problem(400, f"the body is not valid JSON: {message}")
    errors = [
        {
            "field": ".".join(str(part) for part in item["loc"]) or "body",
            "message": _said(item["msg"]),
            "value": _shown(item.get("input")),
        }
        for item in items[:SHOWN_ERRORS]
    ]
    return Problem(422, "; ".join(f"{item['field']}: {item['message']}" for item in errors), errors=errors)


def _deep_place(body: Any) -> str:
    """The first names on the way to what is nested too deep, as far as they stand in the beginning of a body."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    names: list[str] = []  # of each open object or list, its newest key
    key = ""
    for found in _TOKEN.finditer(text, 0, SCANNED_CHARACTERS):
        token = found[0]
        if token in "{[":
            names.append("")
            if len(names) > LEVELS_READ:
                break
        elif token in "}]":
            del names[-1:]
        elif token == ":":
            names[-1:] = [key]
        else:
            key = token[1:-1]
    return ".".join(name for name in names[:NAMED_LEVELS] if name) or "body"


def _said(message: str) -> str:
    """The message; of a long list of what would be right only the beginning."""
    if len(message) <= SHOWN_CHARACTERS:
        return message
    begun = message[:SHOWN_CHARACTERS].rpartition(",")[0] or message[:SHOWN_CHARACTERS]
    return f"{begun}, ... (/openapi.json has all)"


def _shown(value: Any, limit: int = 100) -> Any:
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 1 << 53 else str(value)[:limit]
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
