"""Every generated file of dashboards/ and cluster/: Grafana JSON and alert rules."""

from __future__ import annotations

import json

import yaml

from adbeam.dashboards.alerts import prometheus_rule, rule_file
from adbeam.dashboards.catalogue import CATALOGUE
from adbeam.dashboards.online import ONLINE
from adbeam.dashboards.panels import Dashboard
from adbeam.dashboards.serving import SERVING
from adbeam.dashboards.training import TRAINING

DASHBOARDS: tuple[Dashboard, ...] = (SERVING, TRAINING, CATALOGUE, ONLINE)

_HEADER = "# {what}\n# Written by `adbeam dashboards build` from adbeam.dashboards.alerts: change that, not this.\n"


def dashboard_files() -> dict[str, str]:
    """Files of the folder dashboards/: name -> text."""
    return {f"{page.uid}.json": json.dumps(page.json(), indent=2) + "\n" for page in DASHBOARDS}


def alert_files() -> dict[str, str]:
    """Files of the folder cluster/: name -> text."""
    return {
        "alerts.yml": _HEADER.format(what="Alert rules for Prometheus.") + _yaml(rule_file()),
        "prometheusrule.yaml": _HEADER.format(what="Alert rules for the Prometheus operator.")
        + _yaml(prometheus_rule()),
    }


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=160)
