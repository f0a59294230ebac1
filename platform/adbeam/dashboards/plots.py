"""A dashboard as one PNG, drawn from the same queries that Grafana runs: for reports, and where there is no Grafana."""

from __future__ import annotations

import datetime
import math
import re
from pathlib import Path
from typing import Any

from adbeam.dashboards.panels import Dashboard, Panel
from adbeam.dashboards.prometheus import Prometheus

COLUMNS = 3
POINTS = 240
UNITS = {"s": "seconds", "percentunit": "share", "reqps": "per second", "bytes": "bytes", "percent": "%"}


def draw(
    dashboard: Dashboard, prometheus: Prometheus, start_seconds: float, end_seconds: float, target: Path
) -> list[str]:
    """Write the PNG; returns the titles of panels that have no data between the two moments."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = dashboard.panels
    rows = math.ceil(len(panels) / COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(6 * COLUMNS, 2.9 * rows), squeeze=False, layout="constrained")
    step = max((end_seconds - start_seconds) / POINTS, 1.0)
    empty = [
        panel.title
        for panel, axis in zip(panels, axes.flat, strict=False)
        if not _panel(panel, axis, prometheus, start_seconds, end_seconds, step)
    ]
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    begun = datetime.datetime.fromtimestamp(start_seconds, datetime.UTC)
    figure.suptitle(f"{dashboard.title}, {begun:%Y-%m-%d %H:%M} UTC, {end_seconds - start_seconds:.0f} s")
    figure.savefig(target, dpi=80)
    plt.close(figure)
    return empty


def _panel(panel: Panel, axis: Any, prometheus: Prometheus, start: float, end: float, step: float) -> bool:
    """Draw one panel; returns whether it had data."""
    drawn = 0
    for query in panel.queries:
        for series in prometheus.over_time(query.expr, start, end, step):
            moments = [moment - start for moment, value in series.points if math.isfinite(value)]
            values = [value for _, value in series.points if math.isfinite(value)]
            if values:
                axis.plot(moments, values, linewidth=1.2, label=_legend(query.legend, series.labels))
                drawn += 1
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.set_ylabel(UNITS.get(panel.unit, ""), fontsize=8)
    axis.set_xlim(0, end - start)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)
    if 0 < drawn <= 8:
        axis.legend(fontsize=7, loc="upper left")
    return drawn > 0


def _legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), template) or "value"
