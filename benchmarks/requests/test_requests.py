"""A sample of the mutated bid requests, and that nobody who may not be known leaves a trace."""

from __future__ import annotations

from collections import Counter

from tests.support.openrtb.cases import read_cases

from benchmarks.requests.answers import CASES, bid_figures
from benchmarks.requests.mutations import mutations
from benchmarks.requests.traces import trace_figures


def test_a_sample_of_mutated_requests_is_answered_right() -> None:
    figures = bid_figures(400, seed=1)
    assert not figures["wrong"]
    assert figures["request_cases_right"] == figures["request_cases_all"] >= 40
    assert figures["bid_mutations"] == 400 and figures["bid_optional_mutations"] > 200
    assert figures["bid_answer_equal"] == 1.0 and not figures["bid_needless_nobid"]
    assert not figures["bid_5xx"] + figures["bid_422"] + figures["bid_forbidden"]


def test_mutations_are_those_of_their_seed_and_of_all_kinds() -> None:
    cases = read_cases(CASES)
    made = list(mutations(cases, 300, seed=2))
    assert made == list(mutations(cases, 300, seed=2)) != list(mutations(cases, 300, seed=3))
    kinds = Counter(each.kind for each in made)
    assert set(kinds) == {"sloppy", "forbidden", "private", "bytes"} and min(kinds.values()) > 10


def test_nobody_who_may_not_be_known_leaves_a_trace() -> None:
    figures = trace_figures()
    assert not figures["traces"] and figures["trace_control"] > 0
