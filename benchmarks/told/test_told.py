"""The catalogue that targeting is measured on, and how answers are judged."""

from __future__ import annotations

import numpy as np
from tests.support.tools import tool

from adbeam.targeting.live import LiveTargeting
from adbeam.targeting.rules import stored_rules
from benchmarks.told.budgets import budget_figures
from benchmarks.told.catalogue import FEATURES, request, rule_texts
from benchmarks.told.masks import mask_figures


def test_the_rules_of_the_catalogue_are_read_and_ask_for_all_features() -> None:
    texts = rule_texts(400)
    asked = {name for text in texts.drop_null().to_pylist() for name in stored_rules(text).conditions}
    assert asked == set(FEATURES) and 0.02 < texts.null_count / 400 < 0.3
    random, targeting = np.random.default_rng(0), LiveTargeting(texts, FEATURES, 400)
    for _ in range(20):
        told = request(random)
        shown = [text is None or stored_rules(text).hold(told) for text in texts.to_pylist()]
        allow = targeting.allow(told, 400)
        assert allow is not None and allow.tolist() == shown


def test_answers_under_rules_are_legal_and_full() -> None:
    figures = mask_figures(3000, 1)
    assert figures["answers"] and not figures["illegal_answers"] and not figures["short_answers"]


def test_budgets_are_spent_over_http_and_little_more() -> None:
    tool("redis-server")
    figures = budget_figures(None, seconds=12, rate=15, late_seconds=3)
    assert figures["budgets_spent"] and not figures["budget_refused"]
    assert 0 <= figures["budget_overspend"] < 0.5 and figures["budget_overspend_late"] < 0.5
