"""Block lists and allow lists name advertisers and categories by meaning, in masks and ad by ad alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adbeam.catalogue.blocked import EVERYTHING, Allowed, Blocked, RequestMasks
from adbeam.catalogue.owners import Owner

ADVERTISERS = ["North", "shop.example.com", "example.org", None, "WWW.Example.com"]
CATEGORIES = ["IAB1-2", "IAB12", "Tea", None, "iab1"]
ROWS = len(ADVERTISERS)


def _rows(values: list[str | None]) -> dict[str, np.ndarray]:
    return {value: np.array([row]) for row, value in enumerate(values) if value is not None}


def masks() -> RequestMasks:
    return RequestMasks(
        {"advertiser": _rows(ADVERTISERS), "campaign": {}, "category": _rows(CATEGORIES)},
        lambda item_ids: np.array([int(item) for item in item_ids], np.int64),
    )


@pytest.mark.parametrize(
    ("listed", "refused"),
    [
        ({"advertisers": {"north"}}, {0}), ({"advertisers": {" NORTH "}}, {0}),
        ({"advertisers": {"example.com"}}, {1, 4}), ({"advertisers": {"https://www.EXAMPLE.com/"}}, {1, 4}),
        ({"advertisers": {"shop.example.com"}}, {1}), ({"advertisers": {"le.com"}}, set()),
        ({"advertisers": {"com"}}, set()), ({"categories": {"IAB1"}}, {0, 4}), ({"categories": {"iab1-2"}}, {0}),
        ({"categories": {"tea "}}, {2}), ({"categories": {"IAB1-22"}}, set()),
        ({"advertisers": {"example.org"}, "categories": {"IAB12"}}, {1, 2}),
    ],
)  # fmt: skip
def test_what_a_block_list_blocks(listed: dict[str, Any], refused: set[int]) -> None:
    sets: dict[str, Any] = {name: frozenset(values) for name, values in listed.items()}
    blocked = Blocked(**sets)
    allow_R = masks().allow(blocked, EVERYTHING, ROWS)
    assert allow_R is not None and set(np.flatnonzero(~allow_R)) == refused
    one_by_one = {
        row for row in range(ROWS) if blocked.refused((ADVERTISERS[row],), (CATEGORIES[row],))
    }  # the way of popular ads
    assert one_by_one == refused


def test_an_allow_list_of_advertisers_goes_by_the_same_names() -> None:
    allowed = Allowed(advertisers=frozenset({"Example.COM", "north"}))
    allow_R = masks().allow(Blocked(), allowed, ROWS)
    assert allow_R is not None and set(np.flatnonzero(allow_R)) == {0, 1, 4}
    assert {row for row in range(ROWS) if allowed.refuses("", Owner(ADVERTISERS[row])) is None} == {0, 1, 4}
    assert allowed.refuses("", Owner("east"), ("a.example.com",)) is None


def test_advertisers_that_come_later_are_blocked_too() -> None:
    rows = _rows(ADVERTISERS)
    found = RequestMasks({"advertiser": rows, "campaign": {}, "category": {}}, lambda item_ids: np.zeros(0, np.int64))
    blocked = Blocked(advertisers=frozenset({"north"}))
    assert found.allow(blocked, EVERYTHING, ROWS) is not None
    rows["NORTH"] = np.array([ROWS])
    allow_R = found.allow(blocked, EVERYTHING, ROWS + 1)
    assert allow_R is not None and set(np.flatnonzero(~allow_R)) == {0, ROWS}
