"""Running a dashboard's queries against a Prometheus, without Grafana."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests

from adbeam.dashboards.panels import Panel, Query
from adbeam.errors import UserError


@dataclass(frozen=True)
class Series:
    """One line: its labels, and (seconds since 1970, value) pairs."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class Prometheus:
    """A client of Prometheus' HTTP API."""

    def __init__(self, url: str, rate_window: str = "1m") -> None:
        self._url, self._rate_window = url.rstrip("/"), rate_window

    def now(self, expr: str) -> list[Series]:
        """The present values of an expression."""
        found = self._ask("query", {"query": self.filled(expr)})
        return [Series(entry["metric"], [_point(entry["value"])]) for entry in found]

    def over_time(self, expr: str, start_seconds: float, end_seconds: float, step_seconds: float) -> list[Series]:
        """The values of an expression between two moments (seconds since 1970)."""
        window = {"start": start_seconds, "end": end_seconds, "step": step_seconds}
        found = self._ask("query_range", {"query": self.filled(expr), **window})
        return [Series(entry["metric"], [_point(value) for value in entry["values"]]) for entry in found]

    def filled(self, expr: str) -> str:
        """The expression with Grafana's variables replaced: the rate window, and All for every choice."""
        return expr.replace("$__rate_interval", self._rate_window).replace("$application", ".*")

    def _ask(self, what: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            answer = requests.get(f"{self._url}/api/v1/{what}", params=parameters, timeout=30)
            body = answer.json()
        except (requests.exceptions.RequestException, ValueError):
            raise UserError("no Prometheus answers", field="--prometheus-url", value=self._url) from None
        if body.get("status") != "success":
            raise UserError(f"Prometheus refused {parameters['query']!r}: {body.get('error')}")
        found: list[dict[str, Any]] = body["data"]["result"]
        return found


def without_data(prometheus: Prometheus, panels: list[Panel]) -> list[str]:
    """Titles of panels of which no query returns a value now."""
    return [panel.title for panel in panels if not any(_has_value(prometheus, query) for query in panel.queries)]


def _has_value(prometheus: Prometheus, query: Query) -> bool:
    return any(value == value for series in prometheus.now(query.expr) for _, value in series.points)


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
