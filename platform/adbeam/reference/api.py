"""docs/api.md and docs/openapi.json, written from the models that validate requests (default limits, bearer tokens)."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI

from adbeam.serving.config import ServingConfig
from adbeam.serving.http.context import batch_model
from adbeam.serving.http.openapi import openapi_document
from adbeam.serving.http.openrtb import bid_model
from adbeam.serving.http.schemas import changes_model, event_model, request_model

HEADER = """\
# HTTP API

Written by `adbeam docs build` from the models that check requests. A running replica shows the same with its own limits
and scenes at `/docs` and `/openapi.json`. Errors are `application/problem+json` (RFC 9457) and name the field.
[Money](money.md) says what `price` and `expected_ecpm` are.

```bash
curl -X POST http://127.0.0.1:8000/v1/ads -H 'Content-Type: application/json' -d '{"user_id": "u17", "count": 5}'
```
"""


def document() -> dict[str, Any]:
    """The OpenAPI document of a replica with default settings."""
    config = ServingConfig.parse({"auth": {"mode": "bearer"}})
    service = SimpleNamespace(
        config=config,
        request_type=request_model(config.limits, config.deadline, ("default",)),
        event_type=event_model(config.limits),
        changes_type=changes_model(config.admin),
        bid_type=bid_model(config.limits),
        users_type=batch_model({}, config.limits.users_max),
    )
    return openapi_document(FastAPI(title="adbeam", version="1"), service)


def page(openapi: dict[str, Any]) -> str:
    """The document as Markdown."""
    parts = [HEADER]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts.extend(_operation(path, method, operation))
    parts.append("\n## Types\n")
    for name, schema in sorted(openapi["components"]["schemas"].items()):
        parts.extend(_schema(name, schema))
    return "\n".join(parts) + "\n"


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {method.upper()} {path}\n\n{operation['summary']}.\n"
    for parameter in operation.get("parameters", ()):
        yield f"- {parameter['in']} `{parameter['name']}`: {parameter['description']}"
    if "requestBody" in operation:
        yield f"- body: {_named(operation['requestBody'])}"
    for status, answer in operation["responses"].items():
        body = _named(answer)
        yield f"- {status}: {answer['description']}" + (f" ({body})" if body else "")


def _named(holder: dict[str, Any]) -> str:
    for content in holder.get("content", {}).values():
        return f"`{content['schema'].get('$ref', 'object').rsplit('/', 1)[-1]}`"
    return ""


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {name}\n\n{' '.join(schema.get('description', '').split())}\n"
    if "enum" in schema:
        yield " or ".join(f"`{value}`" for value in schema["enum"])
    if "properties" not in schema:
        return
    yield "| field | type | meaning |\n| --- | --- | --- |"
    required = schema.get("required", ())
    for field, value in schema["properties"].items():
        needed = " (required)" if field in required else ""
        yield f"| `{field}`{needed} | {_type(value)} | {value.get('description', '')} |"


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return f"`{value['$ref'].rsplit('/', 1)[-1]}`"
    if "anyOf" in value:
        return " or ".join(_type(part) for part in value["anyOf"])
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}))}{_bounds(value, 'minItems', 'maxItems')}"
    if "const" in value or "enum" in value:
        return " or ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
    name: str = value.get("type", "anything")
    return name + _bounds(value, "minimum", "maximum") + _bounds(value, "minLength", "maxLength")


def _bounds(value: dict[str, Any], least: str, most: str) -> str:
    low, high = value.get(least), value.get(most)
    if low is None and high is None:
        return ""
    return f" {'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
