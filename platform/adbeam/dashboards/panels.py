"""Dashboards as typed values, and the Grafana JSON they become.

The data source is a variable of the dashboard and nothing carries a number that only one Grafana knows, so the same
JSON works in any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 39
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Kind = Literal["timeseries", "stat", "heatmap"]
Needs = Literal["serving", "training", "steps", "gpu"]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the name of its lines (`{{label}}` is filled in)."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph. `unit` is Grafana's (s, percentunit, reqps, bytes, short). `needs` says what must run for data."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    needs: Needs = "serving"
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the dashboard, filled from the values of a label."""

    name: str
    label: str
    query: str


@dataclass(frozen=True)
class Dashboard:
    """One page. `uid` is its stable address; `json` is what Grafana imports."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()
    tags: tuple[str, ...] = field(default=("adbeam",))

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]

    def json(self) -> dict[str, Any]:
        """The dashboard in Grafana's JSON model."""
        return {
            "uid": self.uid,
            "id": None,
            "title": self.title,
            "description": self.description,
            "tags": list(self.tags),
            "schemaVersion": SCHEMA_VERSION,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-30m", "to": "now"},
            "timezone": "browser",
            "templating": {"list": [_datasource_variable(), *(_variable(variable) for variable in self.variables)]},
            "panels": _layout(self.rows),
        }


def _layout(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Rows from top to bottom, panels from left to right, none over another."""
    placed: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        placed.append(_row(row.title, len(placed) + 1, top))
        top += 1
        left, tallest = 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            placed.append(_panel(panel, len(placed) + 1, left, top))
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return placed


def _row(title: str, number: int, top: int) -> dict[str, Any]:
    place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": left, "y": top},
        "targets": [_target(query, index, panel.kind) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel.kind),
    }


def _target(query: Query, index: int, kind: Kind) -> dict[str, Any]:
    target = {
        "refId": chr(ord("A") + index),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "range": kind != "stat",
        "instant": kind == "stat",
    }
    return {**target, "format": "heatmap"} if kind == "heatmap" else target


def _defaults(panel: Panel) -> dict[str, Any]:
    custom: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": True}
    if panel.stacked:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40}
    if panel.kind != "timeseries":
        custom = {}
    return {
        "unit": panel.unit,
        "min": 0 if panel.unit in ("percentunit", "s", "bytes", "reqps") else None,
        "custom": custom,
    }


def _options(kind: Kind) -> dict[str, Any]:
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"}
    if kind == "heatmap":
        return {"calculate": False, "yAxis": {"axisPlacement": "left"}, "cellGap": 1}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "multi": True,
        "refresh": 2,
        "sort": 1,
    }
