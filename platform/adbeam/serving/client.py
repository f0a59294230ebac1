"""A small client of the endpoint: one request, printed for a person."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console, JustifyMethod
from rich.table import Table

from adbeam.errors import UserError


def request_ads(
    url: str, body: dict[str, Any], *, token: str | None = None, timeout_seconds: float = 10.0
) -> dict[str, Any] | None:
    """The answer of POST /v1/ads, or None when no ad matched (HTTP 204); raises UserError on anything else."""
    status, answer = call(url, "POST", "/v1/ads", body, token=token, timeout_seconds=timeout_seconds)
    if status == 204:
        return None
    if status != 200:
        raise UserError(f"the endpoint answered HTTP {status}: {json.dumps(answer)[:500]}")
    ads: dict[str, Any] = answer
    return ads


def call(
    url: str,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    token: str | None = None,
    timeout_seconds: float = 10.0,
) -> tuple[int, Any]:
    """(status, decoded JSON or None) of one HTTP call; raises UserError when nobody answers."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise UserError("an endpoint looks like http://127.0.0.1:8000", field="url", value=url)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_seconds)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        text = response.read()
    except OSError as error:
        raise UserError(
            f"no answer from {url} ({error})", remedy="start the endpoint with `adbeam serve`, or pass its --url"
        ) from None
    finally:
        connection.close()
    try:
        return response.status, json.loads(text) if text else None
    except ValueError:
        return response.status, text.decode(errors="replace")[:500]


def print_ads(answer: dict[str, Any] | None, title: str = "ads", console: Console | None = None) -> None:
    """Print the ads of an answer with names and prices, and how they came about."""
    console = console or Console()
    if answer is None:
        console.print("no ad matches this request (HTTP 204)")
        return
    table = Table(title=title, title_justify="left")
    columns: dict[str, JustifyMethod] = {
        "ad": "left",
        "name": "left",
        "price": "right",
        "probability": "right",
        "SID": "left",
    }
    for column, justify in columns.items():
        table.add_column(column, justify=justify)
    for ad in answer["ads"]:
        price = "" if ad["price"] is None else f"{ad['price']:.2f}"
        probability = "" if ad["probability"] is None else f"{ad['probability']:.5f}"
        table.add_row(ad["item_id"], ad["title"], price, probability, "-".join(map(str, ad["sid"])))
    console.print(table)
    served = answer["served"]
    console.print(
        f"source {served['source']}, model {served['model_version']}, widths {served['widths']} of "
        f"{served['full_widths']}, queue {served['queue_ms']:.1f} ms, decode {served['decode_ms']:.1f} ms"
        + (", degraded" if served["degraded"] else "")
    )
