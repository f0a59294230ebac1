"""The generated dashboards and alert rules: shape, currency, and names that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from adbeam.cluster.render import stale
from adbeam.dashboards import exporter
from adbeam.dashboards.alerts import ALERTS
from adbeam.dashboards.build import DASHBOARDS, alert_files, dashboard_files
from adbeam.dashboards.panels import COLUMNS, Dashboard, Panel
from adbeam.serving.monitoring.metrics import METRICS

ROOT = Path(__file__).parents[3]
LISTS = {"list_kl", "list_ndcg", "entropy_share", "invalid_share", "collapsed_share"}
TRAINING = {"loss", "requests_per_second", "learning_rate", "gradient_norm", "step"} | LISTS
PAGES = pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.uid)


def _names() -> set[str]:
    """Every adbeam series that some part of the code exports."""
    names = set(exporter.METRICS)
    for name, (kind, *_) in METRICS.items():
        suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[kind]
        names |= {f"ray_{name}{suffix}" for suffix in suffixes}
    return names | {f"ray_adbeam_train_{name}" for name in TRAINING}


def _used(expr: str) -> set[str]:
    return set(re.findall(r"\b(?:ray_)?adbeam_\w+", expr))


def test_there_are_enough_panels_and_each_explains_itself() -> None:
    panels = [panel for page in DASHBOARDS for panel in page.panels]
    assert len(panels) >= 20
    assert all(panel.description.endswith(".") and panel.queries for panel in panels)


@PAGES
def test_titles_are_unique_within_a_dashboard(page: Dashboard) -> None:
    titles = [panel.title for panel in page.panels]
    assert len(titles) == len(set(titles))


@PAGES
def test_every_series_in_a_panel_is_exported_by_the_code(page: Dashboard) -> None:
    for panel in page.panels:
        for query in panel.queries:
            assert _used(query.expr) <= _names(), panel.title


def test_every_series_in_an_alert_is_exported_by_the_code() -> None:
    for alert in ALERTS:
        assert _used(alert.expr) <= _names(), alert.name


@PAGES
def test_json_ties_to_no_grafana(page: Dashboard) -> None:
    value = page.json()
    assert value["id"] is None
    variables = {variable["name"]: variable for variable in value["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in value["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    used = set(re.findall(r"\$(\w+)", json.dumps([panel.get("targets") for panel in value["panels"]])))
    assert used - {"__rate_interval", "datasource"} <= set(variables)


@PAGES
def test_panels_do_not_lie_over_each_other(page: Dashboard) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in page.json()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@PAGES
def test_panel_ids_are_unique(page: Dashboard) -> None:
    numbers = [panel["id"] for panel in page.json()["panels"]]
    assert len(numbers) == len(set(numbers))


def test_generated_files_are_current() -> None:
    assert stale(dashboard_files(), ROOT / "dashboards") == []
    assert stale(alert_files(), ROOT / "cluster") == []


def test_every_alert_has_its_page_in_the_guide() -> None:
    guide = (ROOT / "docs" / "operate.md").read_text()
    headings = {line.lstrip("# ").strip().lower() for line in guide.splitlines() if line.startswith("#")}
    assert [alert.name for alert in ALERTS if alert.anchor not in headings] == []


def test_both_rule_files_hold_the_same_rules() -> None:
    files = {name: yaml.safe_load(text) for name, text in alert_files().items()}
    assert files["alerts.yml"] == files["prometheusrule.yaml"]["spec"]


def _panel(panels: list[dict[str, Any]], title: str) -> dict[str, Any]:
    return next(panel for panel in panels if panel["title"] == title)


def test_a_wide_panel_starts_a_new_line() -> None:
    from adbeam.dashboards.panels import Query, Row

    def wide(title: str) -> Panel:
        return Panel(title, "x.", (Query("up", "x"),), width=16, height=5)

    page = Dashboard("u", "t", "d", (Row("r", (wide("a"), wide("b"))),))
    panels = page.json()["panels"]
    assert _panel(panels, "a")["gridPos"]["y"] == 1
    assert _panel(panels, "b")["gridPos"] == {"h": 5, "w": 16, "x": 0, "y": 6}
