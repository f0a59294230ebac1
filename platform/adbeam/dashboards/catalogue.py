"""Tokens and catalogue: the quality of what every later step stands on. Fed by `adbeam dashboards exporter`."""

from __future__ import annotations

from adbeam.dashboards.panels import Dashboard, Panel, Query, Row


def _panel(title: str, description: str, expr: str, legend: str, unit: str = "short") -> Panel:
    return Panel(title, description, (Query(expr, legend),), unit=unit, needs="steps")


_LOG = Row(
    "Log",
    (
        _panel("Rows of the log", "What prepare kept of the raw log.", "adbeam_prepared_rows", "{{result}}"),
        _panel(
            "Quarantined rows by reason",
            "Rows that broke the schema. A new reason is a change upstream.",
            "adbeam_prepared_quarantined_rows or vector(0)",
            "{{reason}}",
        ),
        _panel(
            "Age of each step's result",
            "Time since prepare, tokenize, train, export and evaluate last published.",
            "time() - adbeam_step_published_timestamp_seconds",
            "{{step}}",
            "s",
        ),
    ),
)

_TOKENS = Row(
    "Tokens",
    (
        _panel(
            "Utilisation of the codebooks",
            "Share of its codes that each level uses. A low level is a collapsed codebook.",
            "adbeam_tokens_level_utilisation",
            "level {{level}}",
            "percentunit",
        ),
        _panel(
            "Collisions",
            "Col: share of occupied semantic IDs that several items share.",
            "adbeam_tokens_collision_ratio",
            "Col",
            "percentunit",
        ),
        _panel(
            "Items per semantic ID",
            "Cpr: items over occupied IDs; 1 is best.",
            "adbeam_tokens_items_per_sid",
            "Cpr",
        ),
    ),
)

_CATALOGUE = Row(
    "Catalogue and quality",
    (
        _panel(
            "Items in the newest bundle",
            "Ads and organic items that serving can name.",
            "adbeam_bundle_items",
            "{{kind}}",
        ),
        _panel(
            "Bundles kept",
            "Bundles that could be rolled back to.",
            "adbeam_bundles",
            "bundles",
        ),
        _panel(
            "Offline quality",
            "From the newest evaluation.",
            "adbeam_evaluation",
            "{{metric}}",
        ),
    ),
)

CATALOGUE = Dashboard(
    "adbeam-catalogue",
    "adbeam tokens and catalogue",
    "Quality of the log, of the semantic IDs, and of the newest bundle.",
    (_LOG, _TOKENS, _CATALOGUE),
)
